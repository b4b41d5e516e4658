#include "block.h"

#include <sched.h>

#include <chrono>
#include <set>

#include "guarded_memory.h"
#include "keywords.h"

namespace lisa_host {

// Back to the scheduler; returns when the fiber runs again.
void leave_fiber() {
  Fiber& fiber = *current;
  Block& block = *fiber.block;
  fiber.annotation.before_switch_to(block.os_stack, block.os_stack_bytes);
  switch_stack(&fiber.stack_pointer, block.scheduler_stack);
  fiber.annotation.after_switch_back(nullptr, nullptr);
}

void wait_at(const char* what, const Location& where) {
  current->waits_at = what;
  current->waits_where = where;
  leave_fiber();
}

void spin() {
  current->block->idle_spins++;
  current->block->order.push(current);
  leave_fiber();
}

std::string describe(const Fiber& fiber) {
  return std::string("kernel ") + fiber.block->launch->kernel + ", block " + coordinates(fiber.block->index) +
         ", thread " + coordinates(fiber.thread);
}

void fail(const std::string& kind, const std::string& message) {
  if (!current) die(message + " (outside a kernel)");
  current->block->fault = {kind, message + ": " + describe(*current)};
  leave_fiber();
  __builtin_unreachable();
}

void check_launch_bounds(uint32_t threads) {
  const uint32_t launched = blockDim.x * blockDim.y * blockDim.z;
  if (launched > threads) {
    fail("launch refused", "a block of " + std::to_string(launched) + " threads exceeds __launch_bounds__(" +
                               std::to_string(threads) + ")");
  }
}

void open_for_reading(Block& block, Collective& collective, int first_fiber) {
  collective.unread = collective.arrived;
  for (int lane = 0; lane < kWarpSize; lane++)
    if (collective.arrived >> lane & 1) block.wake(block.fibers[first_fiber + lane]);
}

// A lane that leaves may be the one that others wait for: exited lanes take no part in *_sync operations.
void leave_warp(Fiber& fiber) {
  Block& block = *fiber.block;
  Warp& warp = *fiber.warp;
  warp.alive &= ~(1u << fiber.lane);
  for (Collective& collective : warp.collectives) {
    if (!collective.mask || collective.unread || !complete(collective, warp)) continue;
    open_for_reading(block, collective, fiber.index - fiber.lane);
  }
}

void open_barrier(Block& block) {
  Barrier& barrier = block.barrier;
  barrier.last_sum = barrier.predicate_sum;
  barrier.arrived = barrier.predicate_sum = 0;
  for (Fiber& fiber : block.fibers)
    if (fiber.block == &block) block.wake(fiber);
}

void fiber_entry() {
  Fiber& fiber = *current;
  Block& block = *fiber.block;
  fiber.annotation.after_switch_back(&block.os_stack, &block.os_stack_bytes);
  block.launch->invoke(block.launch->function, block.launch->arguments);
  fiber.done = true;
  block.alive--;
  leave_warp(fiber);
  // Nor is it waited for at a barrier.
  if (block.barrier.arrived && block.barrier.arrived == block.alive) open_barrier(block);
  leave_fiber();
  __builtin_unreachable();
}

void start_block(Block& block) {
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
  block.barrier = {};
  block.idle_spins = 0;
  block.order.start(count);
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
    block.order.push(&fiber);
  }
}

void resume(Fiber& fiber) {
  Block& block = *fiber.block;
  current = &fiber;
  threadIdx = fiber.thread;
  block.annotation.before_switch_to(fiber.stack, kStackBytes);
  switch_stack(&block.scheduler_stack, fiber.stack_pointer);
  block.annotation.after_switch_back(nullptr, nullptr);
  current = nullptr;
}

Fault deadlock(const Block& block) {
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

// Polls in a row, for each thread, after which threads are no longer held back: one of them may have the lock.
constexpr uint64_t kPatience = 4;

// Polls that go nowhere for this long are taken for a hang.
constexpr auto kSpinLimit = std::chrono::seconds(20);

bool hangs(Block& block, std::chrono::steady_clock::time_point& since) {
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

void run_block(Block& block) {
  start_block(block);
  auto since = std::chrono::steady_clock::now();
  uint64_t steps = 0;
  while (block.alive && block.fault.kind.empty()) {
    Fiber* next = block.order.pop(block.idle_spins > kPatience * block.fibers.size());
    if (!next) {
      block.fault = deadlock(block);
      break;
    }
    resume(*next);
    if (block.watches_margins && block.fault.kind.empty()) {
      if (const std::string written = guarded.written_margin(); !written.empty()) {
        block.fault = {"out of bounds", "access to " + written + ": " + describe(*next)};
      }
    }
    if (block.idle_spins && ++steps % 4096 == 0 && hangs(block, since)) break;
  }
  if (const char* name = block.shared.overrun(); name && block.fault.kind.empty()) {
    block.fault = {"out of bounds", std::string("the bytes after shared `") + name + "` were written: kernel " +
                                        block.launch->kernel + ", block " + coordinates(block.index)};
  }
}

}  // namespace lisa_host
