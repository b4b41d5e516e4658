// Greedy decoding on NVIDIA GPUs, device code: the best class of each frame; then frames to labels.
#pragma once
#include "../ctc/ctc_row_threads.cuh"
#include "ctc_greedy_decode.h"

namespace lisa::ctc_greedy_decode {

using ctc::elements_past_boundary;
using ctc::exp_of;
using ctc::infinity;
using ctc::kHeld;
using ctc::kRowBlock;
using ctc::kVector;
using ctc::kWarp;
using ctc::RealOf;
using ctc::RowThreads;
using ctc::Span;
using ctc::Sum;

constexpr int kCollapseThreads = 256;
constexpr int kNoClass = -1;
constexpr int kBeyond = 0x7fffffff;

// A value and the first class that has it; of nothing but NaN and -inf there is none.
template <typename Real>
struct Best {
  Real value = -infinity<Real>();
  int where = kBeyond;
};

template <typename Real>
__device__ inline Best<Real> better(Best<Real> a, Best<Real> b) {
  return a.value > b.value || (a.value == b.value && a.where < b.where) ? a : b;
}

template <int kThreads, typename Real>
__device__ inline Best<Real> best_of_threads(Best<Real> best) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    best = better(best, {__shfl_xor_sync(ctc::kAllLanes, best.value, distance),
                         __shfl_xor_sync(ctc::kAllLanes, best.where, distance)});
  if constexpr (kThreads == kRowBlock) {
    __shared__ Real values[kRowBlock / kWarp];
    __shared__ int wheres[kRowBlock / kWarp];
    __syncthreads();
    if (threadIdx.x % kWarp == 0) values[threadIdx.x / kWarp] = best.value, wheres[threadIdx.x / kWarp] = best.where;
    __syncthreads();
    best = {values[0], wheres[0]};
#pragma unroll
    for (int i = 1; i < kRowBlock / kWarp; ++i) best = better(best, {values[i], wheres[i]});
  }
  return best;
}

template <typename Real>
struct RowResult {
  int best;
  Real log_prob;
};

// What a row's threads know of the classes so far: `best` all of them, the sums each of its own.
template <typename Real>
struct RowSoFar {
  Best<Real> best;
  // How many classes are the largest, and the sum of exp(x - largest) of the others: apart, because on a confident
  // model the sum is 1 and little more, and rounded to fp32 its log would lose its digits.
  Real equals = Real(0), others = Real(0);

  // `raised`: the best of these classes, and of those before, that the thread knows.
  template <int kThreads, int kCount>
  __device__ void take(const Real (&x)[kCount], Best<Real> raised) {
    raised = best_of_threads<kThreads>(raised);
    // Of nothing but -inf up to here the sum is 0, and NaN if there was a NaN.
    const Real origin = raised.value == -infinity<Real>() ? Real(0) : raised.value;
    if (raised.value > best.value) {
      others = (equals + others) * exp_of(best.value - origin);
      equals = Real(0);
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const bool is_largest = x[i] == origin;
      equals += is_largest ? Real(1) : Real(0);
      others += is_largest ? Real(0) : exp_of(x[i] - origin);
    }
    best = raised;
  }
};

// One read of the row, 128 bits a thread and access but for its ends.
template <int kThreads, typename In>
__device__ inline RowResult<RealOf<In>> decode_row(const In* row, int classes) {
  using Real = RealOf<In>;
  constexpr int kVectors = kHeld<In>;
  const int lane = RowThreads<kThreads>::lane();
  const Span span = Span::of<In>(0, classes, -elements_past_boundary(row));
  const Real lowest = -infinity<Real>();
  RowSoFar<Real> so_far;
  for (int done = 0; done < span.vectors; done += kThreads * kVectors) {
    Real x[kVectors * kVector<In>];
    Best<Real> raised = so_far.best;
#pragma unroll
    for (int h = 0; h < kVectors; ++h) {
      const int vector = done + h * kThreads + lane, first = span.first + vector * kVector<In>;
      Real loaded[kVector<In>];
#pragma unroll
      for (int i = 0; i < kVector<In>; ++i) loaded[i] = lowest;
      if (vector < span.vectors) ctc::load_vectors(row + first, loaded);
#pragma unroll
      for (int i = 0; i < kVector<In>; ++i) {
        x[h * kVector<In> + i] = loaded[i];
        if (loaded[i] > raised.value) raised = {loaded[i], first + i};
      }
    }
    so_far.template take<kThreads>(x, raised);
  }
  if (span.vectors * kVector<In> < classes) {
    const int edge = span.edge<In>(lane);
    const Real x[1] = {edge < 0 ? lowest : ctc::to_real(row[edge])};
    // Of equals the first: an end may lie before the vectors or behind them.
    so_far.template take<kThreads>(x, x[0] > lowest ? better(so_far.best, {x[0], edge}) : so_far.best);
  }
  const Real equals = ctc::reduce_row<kThreads>(so_far.equals, Sum());
  const Real others = ctc::reduce_row<kThreads>(so_far.others, Sum());
  const Best<Real> best = so_far.best;
  const bool is_finite = best.value > lowest && best.value < infinity<Real>();
  return {best.where == kBeyond ? 0 : best.where,
          is_finite ? -(log(equals) + log1p(others / equals)) : ctc::not_a_number(Real(0))};
}

__device__ inline int held_frames(const CtcGreedyDecode& p, int64_t n) {
  const int64_t length = p.logit_lengths[n];
  return static_cast<int>(length < 0 ? 0 : (length > p.frames ? p.frames : length));
}

template <typename In, int kThreads>
__global__ void __launch_bounds__(kRowBlock, 2) ctc_best_kernel(CtcGreedyDecode p) {
  using Real = RealOf<In>;
  const int64_t index = int64_t{blockIdx.x} * RowThreads<kThreads>::kRows + threadIdx.x / kThreads;
  if (index >= p.frames * p.batch) return;
  // In the order of memory, whichever of T and N comes first in it.
  const bool frames_outside = p.stride_t >= p.stride_n;
  const int64_t t = frames_outside ? index / p.batch : index % p.frames;
  const int64_t n = frames_outside ? index % p.batch : index / p.frames;
  if (t >= held_frames(p, n)) return;
  const In* row = static_cast<const In*>(p.logits) + t * p.stride_t + n * p.stride_n;
  const RowResult<Real> found = decode_row<kThreads>(row, static_cast<int>(p.classes));
  if (RowThreads<kThreads>::lane() != 0) return;
  p.best[n * p.frames + t] = found.best;
  static_cast<Real*>(p.log_prob)[n * p.frames + t] = found.log_prob;
}

// Labels, frames and score of one utterance.
template <typename Real>
__global__ void __launch_bounds__(kCollapseThreads) ctc_collapse_kernel(CtcGreedyDecode p) {
  constexpr int kWarps = kCollapseThreads / kWarp;
  __shared__ int begun_in_warp[kWarps];
  __shared__ double score_of_warp[kWarps];
  const int64_t n = blockIdx.x, row = n * p.frames;
  const int frames = held_frames(p, n), lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t* best = p.best + row;
  const Real* log_prob = static_cast<const Real*>(p.log_prob) + row;
  int64_t count = 0;
  double score = 0;
  for (int first = 0; first < frames; first += kCollapseThreads) {
    const int t = first + static_cast<int>(threadIdx.x);
    const int own = t < frames ? best[t] : static_cast<int>(p.blank);
    const int before = t < frames && t > 0 ? best[t - 1] : kNoClass;
    const int after = t + 1 < frames ? best[t + 1] : kNoClass;
    if (t < frames) score += static_cast<double>(log_prob[t]);
    const bool begins = own != p.blank && own != before, finishes = own != p.blank && own != after;
    const unsigned begun = __ballot_sync(ctc::kAllLanes, begins);
    if (lane == 0) begun_in_warp[warp] = __popc(begun);
    __syncthreads();
    int64_t to = count + __popc(begun & (0xffffffffu >> (kWarp - 1 - lane))) - 1;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      if (i < warp) to += begun_in_warp[i];
      count += begun_in_warp[i];
    }
    // A label's last frame finds it begun.
    if (begins) p.ids[row + to] = own, p.starts[row + to] = t;
    if (finishes) p.ends[row + to] = t + 1;
    // The next frames overwrite the counts.
    __syncthreads();
  }
  for (int64_t i = count + threadIdx.x; i < p.frames; i += kCollapseThreads)
    p.ids[row + i] = -1, p.starts[row + i] = -1, p.ends[row + i] = -1;

  score = ctc::reduce_warp(score, Sum());
  if (lane == 0) score_of_warp[warp] = score;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < kWarps; ++i) score += score_of_warp[i];
  p.lengths[n] = count;
  static_cast<Real*>(p.scores)[n] =
      frames == p.logit_lengths[n] ? static_cast<Real>(score) : ctc::not_a_number(Real(0));
}

}  // namespace lisa::ctc_greedy_decode
