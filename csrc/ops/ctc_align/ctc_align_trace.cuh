// The path, read off backwards by one warp.
#pragma once
#include "../ctc/ctc_reduce.cuh"
#include "ctc_align_lattice.cuh"

namespace lisa::ctc {

// Frames whose back pointers are fetched at once: those of the two groups of positions that the path may be in.
constexpr int kTraced = 16;
constexpr int kWordsOfAFrame = 2 * Moves::kPlanes;
constexpr int kTracedWords = kTraced * kWordsOfAFrame / kWarp;

// The words of a piece of kTraced frames, spread over the lanes.
class TracedMoves {
  uint32_t words[kTracedWords];
  int upper;  // group

 public:
  // `last` is the piece's last frame, whose window is given; the path is at position j there.
  __device__ TracedMoves(const Moves& moves, const Align& call, const Aligned& u, int last, int j) : upper(j / kWarp) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int i = 0; i < kTracedWords; ++i) {
      const int at = i * kWarp + lane, t = last - at / kWordsOfAFrame, group = upper - at / Moves::kPlanes % 2;
      words[i] = 0;
      if (t < 0) continue;
      const Window window(u.frames, u.labels, call.band, t);
      if (group >= window.first() / kWarp && group <= window.last() / kWarp)
        words[i] = moves.group(t, group - moves.origin(window))[at % Moves::kPlanes];
    }
  }
  // Of the frame `back` frames before the last; the same for all lanes.
  __device__ bool is_set(int back, int j, int plane) const {
    const int at = back * kWordsOfAFrame + (upper - j / kWarp) * Moves::kPlanes + plane;
    uint32_t word = words[0];
#pragma unroll
    for (int i = 1; i < kTracedWords; ++i)
      if (at / kWarp == i) word = words[i];
    return __shfl_sync(kAllLanes, word, at % kWarp) >> j % kWarp & 1;
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
      const bool moved = traced.is_set(back, j, on_label ? Moves::kOntoLabel : Moves::kOntoBlank);
      const bool by_skip = traced.is_set(back, j, Moves::kBySkip);
      if (!moved) continue;
      const bool goes_down = !on_label || by_skip;
      on_label = goes_down;
      j -= goes_down;
    }
    const int t = last - lane;
    if (lane >= kTraced || t < 0) continue;
    const Window window(u.frames, u.labels, call.band, t);
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
    faulty |= !is_class(p, label) && !is_star(call, label);
  }
  return __any_sync(kAllLanes, faulty);
}

}  // namespace lisa::ctc
