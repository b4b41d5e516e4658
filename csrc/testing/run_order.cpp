#include "block.h"

namespace lisa_host {

void RunOrder::start(int threads) {
  threads_ = threads;
  ready_.clear();
  held_back_.clear();
  draw_laggards();
}

// One of: nobody, one thread, one warp, all warps but one.
void RunOrder::draw_laggards() {
  lagging_thread_ = lagging_warp_ = leading_warp_ = -1;
  if (!shuffled) return;
  const int thread = static_cast<int>(random() % threads_), warp = thread / kWarpSize;
  switch (random() % 4) {
    case 0: break;
    case 1: lagging_thread_ = thread; break;
    case 2: lagging_warp_ = warp; break;
    case 3: leading_warp_ = warp; break;
  }
}

bool RunOrder::lags(const Fiber& fiber) const {
  const int warp = fiber.index / kWarpSize;
  return fiber.index == lagging_thread_ || warp == lagging_warp_ || (leading_warp_ >= 0 && warp != leading_warp_);
}

void RunOrder::push(Fiber* fiber) { (lags(*fiber) ? held_back_ : ready_).push_back(fiber); }

Fiber* RunOrder::pop(bool idle) {
  if (!held_back_.empty() && (idle || ready_.empty())) {
    std::deque<Fiber*> waiting;
    waiting.swap(held_back_);
    waiting.insert(waiting.end(), ready_.begin(), ready_.end());
    ready_.clear();
    draw_laggards();
    for (Fiber* fiber : waiting) push(fiber);
    if (idle || ready_.empty()) {
      ready_.insert(ready_.end(), held_back_.begin(), held_back_.end());
      held_back_.clear();
    }
  }
  if (ready_.empty()) return nullptr;
  if (shuffled) std::swap(ready_.front(), ready_[random() % ready_.size()]);
  Fiber* next = ready_.front();
  ready_.pop_front();
  return next;
}

}  // namespace lisa_host
