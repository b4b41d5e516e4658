// One block: its threads as fibers, and who runs next.
#pragma once
#include <sched.h>

#include <chrono>
#include <deque>
#include <set>
#include <vector>

#include "fiber.h"
#include "launch.h"
#include "shared_arena.h"

namespace lisa_host {

constexpr int kWarpSize = 32;

// One collective operation of a warp that lanes are gathering for, or that some have not read yet.
struct Collective {
  uint32_t mask = 0;  // 0: free
  uint32_t arrived = 0;
  uint32_t unread = 0;  // once complete: lanes that have yet to read
  uint32_t predicates = 0;
  const char* operation = nullptr;
  uint64_t values[kWarpSize];
};

struct Warp {
  uint32_t alive = 0;                  // lanes that have not left the kernel
  std::deque<Collective> collectives;  // a deque: addresses stay valid
};

struct Barrier {
  int arrived = 0;
  int predicate_sum = 0, last_sum = 0;
  Location where;
};

// xorshift64 (Marsaglia, 2003): reproducible everywhere, unlike the distributions of <random>.
struct Random {
  uint64_t state = 1;
  uint64_t operator()() {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
  }
};

struct Block {
  uint3 index{};
  const Launch* launch = nullptr;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::deque<Fiber*> ready;
  int alive = 0, exited = 0;
  Barrier barrier;
  SharedArena shared;
  void* dynamic_shared = nullptr;
  Fault fault;
  bool shuffled = false;
  Random random;
  uint64_t idle_spins = 0;

  Stacks stacks;
  void* scheduler_stack = nullptr;
  FiberAnnotation annotation;
  const void* os_stack = nullptr;  // of the OS thread, for the sanitizer
  size_t os_stack_bytes = 0;

  void wake(Fiber& fiber) {
    if (!fiber.waits_at) return;
    fiber.waits_at = nullptr;
    ready.push_back(&fiber);
    idle_spins = 0;
  }
};

// Back to the scheduler; returns when the fiber runs again.
inline void leave_fiber() {
  Fiber& fiber = *current;
  Block& block = *fiber.block;
  fiber.annotation.before_switch_to(block.os_stack, block.os_stack_bytes);
  switch_stack(&fiber.stack_pointer, block.scheduler_stack);
  fiber.annotation.after_switch_back(nullptr, nullptr);
}

// Waits until another thread calls Block::wake.
inline void wait_at(const char* what, const Location& where) {
  current->waits_at = what;
  current->waits_where = where;
  leave_fiber();
}

// Lets others run: what a thread that polls memory must do, since fibers are never interrupted.
inline void spin() {
  current->block->idle_spins++;
  current->block->ready.push_back(current);
  leave_fiber();
}

// Under a seed, lets others run between two accesses that the kernel does not order.
inline void maybe_spin() {
  Block& block = *current->block;
  if (block.shuffled && block.random() % 4 == 0) spin();
}

inline std::string describe(const Fiber& fiber) {
  return std::string("kernel ") + fiber.block->launch->kernel + ", block " + coordinates(fiber.block->index) +
         ", thread " + coordinates(fiber.thread);
}

inline void fail(const std::string& kind, const std::string& message) {
  if (!current) die(message + " (outside a kernel)");
  current->block->fault = {kind, message + ": " + describe(*current)};
  leave_fiber();
  __builtin_unreachable();
}

// The runtime would not start such a launch; here its first thread finds out.
inline void check_launch_bounds(uint32_t threads) {
  const uint32_t launched = blockDim.x * blockDim.y * blockDim.z;
  if (launched > threads) {
    fail("launch refused", "a block of " + std::to_string(launched) + " threads exceeds __launch_bounds__(" +
                               std::to_string(threads) + ")");
  }
}

inline bool complete(const Collective& collective, const Warp& warp) {
  const uint32_t expected = collective.mask & (warp.alive | collective.arrived);
  return (collective.arrived & expected) == expected;
}

// A lane that leaves may be the one that others wait for: exited lanes take no part in *_sync operations.
inline void leave_warp(Fiber& fiber) {
  Block& block = *fiber.block;
  Warp& warp = *fiber.warp;
  warp.alive &= ~(1u << fiber.lane);
  for (Collective& collective : warp.collectives) {
    if (!collective.mask || collective.unread || !complete(collective, warp)) continue;
    collective.unread = collective.arrived;
    for (int lane = 0; lane < kWarpSize; lane++)
      if (collective.arrived >> lane & 1) block.wake(block.fibers[fiber.index - fiber.lane + lane]);
  }
}

inline void fiber_entry() {
  Fiber& fiber = *current;
  Block& block = *fiber.block;
  fiber.annotation.after_switch_back(&block.os_stack, &block.os_stack_bytes);
  block.launch->invoke(block.launch->function, block.launch->arguments);
  if (block.barrier.arrived) {
    fail("divergent barrier",
         "a thread leaves the kernel while others wait at __syncthreads, " + place(block.barrier.where));
  }
  fiber.done = true;
  block.alive--;
  block.exited++;
  leave_warp(fiber);
  leave_fiber();
  __builtin_unreachable();
}

inline void start_block(Block& block) {
  const uint32_t* shape = block.launch->block;
  const int count = shape[0] * shape[1] * shape[2];
  if (static_cast<int>(block.fibers.size()) < count) block.fibers.resize(count);
  block.stacks.grow(count);
  block.warps.resize((count + kWarpSize - 1) / kWarpSize);
  for (Warp& warp : block.warps) {
    warp.alive = 0;
    warp.collectives.clear();
  }
  block.alive = count;
  block.exited = 0;
  block.barrier = {};
  block.idle_spins = 0;
  block.ready.clear();
  for (int i = 0; i < count; i++) {
    Fiber& fiber = block.fibers[i];
    const uint32_t x = i, width = shape[0], height = shape[1];
    fiber.thread = {x % width, x / width % height, x / (width * height)};
    fiber.stack = block.stacks[i];
    fiber.index = i;
    fiber.lane = i % kWarpSize;
    fiber.warp = &block.warps[i / kWarpSize];
    fiber.warp->alive |= 1u << fiber.lane;
    fiber.block = &block;
    fiber.done = false;
    fiber.waits_at = nullptr;
    fiber.copies.clear();
    fiber.annotation = {};
    allow_access(fiber.stack, kStackBytes);  // an abandoned fiber leaves the red zones of its variables
    prepare_stack(fiber, fiber_entry);
    block.ready.push_back(&fiber);
  }
}

inline void resume(Fiber& fiber) {
  Block& block = *fiber.block;
  current = &fiber;
  threadIdx = fiber.thread;
  block.annotation.before_switch_to(fiber.stack, kStackBytes);
  switch_stack(&block.scheduler_stack, fiber.stack_pointer);
  block.annotation.after_switch_back(nullptr, nullptr);
  current = nullptr;
}

inline Fault deadlock(const Block& block) {
  std::set<std::string> waiting;
  const Fiber* first = nullptr;
  for (const Fiber& fiber : block.fibers) {
    if (fiber.block != &block || fiber.done || !fiber.waits_at) continue;
    if (!first) first = &fiber;
    waiting.insert(std::string(fiber.waits_at) + ", " + place(fiber.waits_where));
  }
  std::string message = "threads wait for others that never come";
  for (const std::string& where : waiting) message += "; at " + where;
  return {"deadlock", message + ": " + describe(*first)};
}

// Polls that go nowhere for this long are taken for a hang.
constexpr auto kSpinLimit = std::chrono::seconds(20);

inline bool hangs(Block& block, std::chrono::steady_clock::time_point& since) {
  constexpr uint64_t kSpinsPerLook = 1 << 16;
  const auto now = std::chrono::steady_clock::now();
  if (block.idle_spins < kSpinsPerLook) since = now;
  if (now - since < kSpinLimit) {
    sched_yield();  // what is polled may be written by a block of another OS thread
    return false;
  }
  block.fault = {"deadlock", std::string("kernel ") + block.launch->kernel + ", block " + coordinates(block.index) +
                                 ": its threads poll memory that nobody writes"};
  return true;
}

// Runs all threads to their end, or until one faults.
inline void run_block(Block& block) {
  start_block(block);
  auto since = std::chrono::steady_clock::now();
  uint64_t steps = 0;
  while (block.alive && block.fault.kind.empty()) {
    if (block.ready.empty()) {
      block.fault = deadlock(block);
      break;
    }
    if (block.shuffled) std::swap(block.ready.front(), block.ready[block.random() % block.ready.size()]);
    Fiber& next = *block.ready.front();
    block.ready.pop_front();
    resume(next);
    if (block.idle_spins && ++steps % 4096 == 0 && hangs(block, since)) break;
  }
  if (const char* name = block.shared.overrun(); name && block.fault.kind.empty()) {
    block.fault = {"out of bounds", std::string("the bytes after shared `") + name + "` were written: kernel " +
                                        block.launch->kernel + ", block " + coordinates(block.index)};
  }
}

}  // namespace lisa_host
