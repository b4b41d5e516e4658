// The executor that comes with this folder: blocks over OS threads, threads as fibers.
#include <atomic>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "block.h"
#include "guarded_memory.h"
#include "keywords.h"
#include "launch.h"
#include "signals.h"

namespace lisa_host {
namespace {

// Kept between launches: a block of 1024 threads needs 64 MiB of stacks (address space; pages are touched on use).
std::vector<std::unique_ptr<Block>> idle_blocks;

// A permutation of the blocks without a table: i -> (step * i + first) mod count, step coprime to count.
class BlockOrder {
 public:
  BlockOrder(uint64_t count, uint64_t seed) : count_(count) {
    if (!seed) return;
    Random random{seed};
    first_ = random() % count;
    do step_ = random() % count + 1;
    while (std::gcd(step_, count) != 1);
  }
  uint64_t operator[](uint64_t i) const {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(step_) * i + first_) % count_);
  }

 private:
  uint64_t count_, first_ = 0, step_ = 1;
};

class FiberRun {
 public:
  explicit FiberRun(const Launch& launch)
      : launch_(launch),
        seed_(state.seed ? (state.seed * 0x9e3779b97f4a7c15ull) | 1 : 0),
        count_(uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2]),
        order_(count_, seed_) {}

  // Returns the first fault; its kind is empty if there was none.
  Fault run(uint64_t os_threads, bool watch_margins) {
    watches_margins_ = watch_margins;
    const size_t workers = std::min(os_threads, count_);
    while (idle_blocks.size() < workers) idle_blocks.push_back(std::make_unique<Block>());
    std::vector<std::thread> others;
    for (size_t i = 1; i < workers; i++) others.emplace_back([this, i] { work(*idle_blocks[i]); });
    work(*idle_blocks[0]);
    for (std::thread& other : others) other.join();
    return fault_;
  }

 private:
  void work(Block& block) {
    const SignalStack signal_stack;
    const Watchdog watchdog;
    block.launch = &launch_;
    block.watches_margins = watches_margins_;
    blockDim = dim3(launch_.block[0], launch_.block[1], launch_.block[2]);
    gridDim = dim3(launch_.grid[0], launch_.grid[1], launch_.grid[2]);
    for (uint64_t i; !stop_ && (i = next_++) < count_;) {
      const uint64_t at = order_[i], width = launch_.grid[0], height = launch_.grid[1];
      blockIdx = {static_cast<unsigned>(at % width), static_cast<unsigned>(at / width % height),
                  static_cast<unsigned>(at / (width * height))};
      block.index = blockIdx;
      block.order.shuffled = seed_ != 0;
      block.order.random.state = (seed_ + 0x9e3779b97f4a7c15ull * at) | 1;
      block.fault = {};
      block.shared.reset();
      block.dynamic_shared = launch_.shared_bytes
                                 ? block.shared.variable(&launch_, "dynamic shared memory", launch_.shared_bytes, 128)
                                 : nullptr;
      run_block(block);
      if (!block.fault.kind.empty() && !stop_.exchange(true)) fault_ = block.fault;
    }
  }

  const Launch& launch_;
  const uint64_t seed_, count_;
  const BlockOrder order_;
  bool watches_margins_ = false;
  std::atomic<uint64_t> next_{0};
  std::atomic<bool> stop_{false};
  Fault fault_;  // the first; read after all workers have ended
};

}  // namespace

void run_on_fibers(const Launch* launch) {
  if (current) fail("launch refused", "a kernel launches another one, which is not modelled");
  const std::lock_guard<std::mutex> one_at_a_time(state.running);
  const SignalHandlers handlers;
  const uint64_t os_threads = state.threads > 0 ? state.threads : std::max(1u, std::thread::hardware_concurrency());
  Fault fault = FiberRun(*launch).run(os_threads, false);
  if (fault.kind.empty()) {
    const std::string written = guarded.written_margin();
    if (written.empty()) return;
    // Again from the same memory, watched: that tells which thread it was, at the price of a look after each turn.
    guarded.refill();
    fault = FiberRun(*launch).run(1, true);
    if (fault.kind.empty()) {
      fault = {"out of bounds",
               "access to " + written + ": kernel " + launch->kernel + ", in one order of its threads"};
    }
  }
  state.fault = fault;
  state.error = cudaErrorLaunchFailure;
}

}  // namespace lisa_host
