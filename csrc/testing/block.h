// One block: its threads as fibers, and who runs next.
#pragma once
#include <deque>
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

// Who runs next.  Without a seed: first come, first served.  With one: drawn, while some threads are held back as long
// as any other can run.  Without that all threads advance at about the same pace, and a value that is overwritten a
// whole round too early is hardly ever seen: of 7 seeds none found the missing second barrier of a block scan.
class RunOrder {
 public:
  bool shuffled = false;
  Random random;

  void start(int threads);
  void push(Fiber* fiber);
  // Returns the next thread, null if none can run.  `idle`: threads only poll, so that those held back must have a
  // turn.
  Fiber* pop(bool idle);

 private:
  void draw_laggards();
  bool lags(const Fiber& fiber) const;

  int threads_ = 0;
  int lagging_thread_ = -1, lagging_warp_ = -1, leading_warp_ = -1;
  std::deque<Fiber*> ready_, held_back_;
};

struct Block {
  uint3 index{};
  const Launch* launch = nullptr;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  int alive = 0;
  Barrier barrier;
  SharedArena shared;
  void* dynamic_shared = nullptr;
  Fault fault;
  RunOrder order;
  uint64_t idle_spins = 0;
  bool watches_margins = false;  // looks after each turn of a thread whether it wrote one

  Stacks stacks;
  void* scheduler_stack = nullptr;
  FiberAnnotation annotation;
  const void* os_stack = nullptr;  // of the OS thread, for the sanitizer
  size_t os_stack_bytes = 0;

  void wake(Fiber& fiber) {
    if (!fiber.waits_at) return;
    fiber.waits_at = nullptr;
    order.push(&fiber);
    idle_spins = 0;
  }
};

// Waits until another thread calls Block::wake.
void wait_at(const char* what, const Location& where);

// Lets others run: what a thread that polls memory must do, since fibers are never interrupted.
void spin();

// Under a seed, lets others run between two accesses that the kernel does not order.
inline void maybe_spin() {
  Block& block = *current->block;
  if (block.order.shuffled && block.order.random() % 4 == 0) spin();
}

std::string describe(const Fiber& fiber);

// The runtime would not start a block that exceeds __launch_bounds__; here its first thread finds out.
void check_launch_bounds(uint32_t threads);

// Whether all lanes that the operation waits for have arrived.
inline bool complete(const Collective& collective, const Warp& warp) {
  const uint32_t expected = collective.mask & (warp.alive | collective.arrived);
  return (collective.arrived & expected) == expected;
}

// Lets the lanes that have arrived read the result.
void open_for_reading(Block& block, Collective& collective, int first_fiber);

// Lets the threads that wait at the barrier go on; all that have not left the kernel do.
void open_barrier(Block& block);

// Runs all threads to their end, or until one faults.
void run_block(Block& block);

}  // namespace lisa_host
