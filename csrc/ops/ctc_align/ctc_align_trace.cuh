// The path, read off backwards by one warp.
#pragma once
#include "../ctc/ctc_reduce.cuh"
#include "ctc_align_lattice.cuh"

namespace lisa::ctc {

// Frames whose back pointers are fetched at once, each by two lanes: in so many frames a path does not leave two
// groups.
constexpr int kTraced = kWarp / 2;

// The back pointers of kTraced frames: those of `back` frames before the last, in the group where the path is in the
// last one and in the group below, are with lanes 2 * back and 2 * back + 1.
class TracedMoves {
  uint32_t onto_label = 0, by_skip = 0, onto_blank = 0;
  int upper;  // group

  // The same for all lanes.
  __device__ bool is_set(uint32_t word, int back, int j) const {
    return __shfl_sync(kAllLanes, word, 2 * back + upper - j / kWarp) >> j % kWarp & 1;
  }

 public:
  // `last` is the last frame; the path is at position j there.
  __device__ TracedMoves(const Moves& moves, const Align& call, const Aligned& u, int last, int j) : upper(j / kWarp) {
    const int lane = threadIdx.x % kWarp, t = last - lane / 2, group = upper - lane % 2;
    if (t < 0) return;
    const Window window = window_of(call, u, t);
    if (group < window.first / kWarp || group > window.last / kWarp) return;
    const uint32_t* words = moves.group(t, group - moves.origin(window));
    onto_label = words[Moves::kOntoLabel], by_skip = words[Moves::kBySkip], onto_blank = words[Moves::kOntoBlank];
  }
  // Goes back by a frame.
  __device__ void follow(int back, int& j, bool& on_label) const {
    const bool moved = is_set(on_label ? onto_label : onto_blank, back, j), skipped = is_set(by_skip, back, j);
    if (!moved) return;
    const bool goes_down = !on_label || skipped;
    on_label = goes_down;
    j -= goes_down;
  }
};

// Writes what the op returns of one utterance.  `found`: there is a path, and it ends on the last label or on the last
// blank; the same for all lanes.
template <typename Real>
__device__ inline void trace(const Align& call, const Aligned& u, bool faulty, bool found, bool on_label) {
  const Problem& p = call.problem;
  const int lane = threadIdx.x % kWarp;
  const int64_t row = u.n * p.frames;
  const Real* log_sum = static_cast<const Real*>(p.log_sum) + row;
  const Emissions<Real> emissions(call, u);
  const Moves moves(call, u);
  Real* scores = static_cast<Real*>(call.scores) + row;
  int j = on_label ? u.labels - 1 : u.labels;
  double total = 0;
  for (int last = u.frames - 1; found && last >= 0; last -= kTraced) {
    const TracedMoves traced(moves, call, u, last, j);
    int own_position = 0;
    bool own_is_label = false;
    for (int back = 0; back < kTraced && back <= last; ++back) {
      if (back == lane) own_position = j, own_is_label = on_label;
      traced.follow(back, j, on_label);
    }
    const int t = last - lane;
    if (lane >= kTraced || t < 0) continue;
    const Window window = window_of(call, u, t);
    const int64_t label = own_is_label ? label_at(p, u.target.start + own_position) : p.blank;
    const int slot = own_is_label ? emissions.origin(window) + own_position : 0;
    const double score = static_cast<double>(emissions.row(t)[slot]) - static_cast<double>(log_sum[t]);
    call.paths[row + t] = label;
    call.states[row + t] = own_is_label ? own_position : -1;
    scores[t] = static_cast<Real>(score);
    total += score;
  }
  for (int64_t t = (found ? u.frames : 0) + lane; t < p.frames; t += kWarp)
    call.paths[row + t] = -1, call.states[row + t] = -1, scores[t] = Real(0);
  total = reduce_warp(total, Sum());
  const Real missing = faulty ? not_a_number(Real(0)) : -infinity<Real>();
  if (lane == 0) static_cast<Real*>(call.total)[u.n] = found ? static_cast<Real>(total) : missing;
}

// Whether a frame has no softmax, or a label is no class; one warp, the same for all its lanes.
template <typename Real>
__device__ inline bool find_faults(const Align& call, const Aligned& u) {
  const Problem& p = call.problem;
  const int lane = threadIdx.x % kWarp;
  const Real* log_sum = static_cast<const Real*>(p.log_sum) + u.n * p.frames;
  bool faulty = u.faulty;
  for (int t = lane; t < u.frames; t += kWarp) faulty |= log_sum[t] != log_sum[t];
  for (int j = lane; j < u.labels; j += kWarp) {
    const int64_t label = label_at(p, u.target.start + j);
    faulty |= !is_class(p, label) && !is_star(p, label);
  }
  return __any_sync(kAllLanes, faulty);
}

}  // namespace lisa::ctc
