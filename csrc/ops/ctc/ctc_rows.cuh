// The dense pass over the logits in forward: statistics of each row, and emissions.
#pragma once
#include "ctc_row_threads.cuh"
#include "ctc_target.cuh"

namespace lisa::ctc {

struct RowIndex {
  int64_t t, n;
};

// Rows in the order of memory, whichever of T and N comes first in it.
__device__ inline RowIndex row_index(const Problem& p, int64_t row) {
  if (p.stride_t >= p.stride_n) return {row / p.batch, row % p.batch};
  return {row % p.frames, row / p.frames};
}

template <typename Real>
struct RowStatistics {
  Real max, log_sum;
};

__device__ inline double log_of_sum(double sum, double) { return log(sum); }
// A confident model's sum is 1 and little more: what rounding to fp32 leaves is added again.
__device__ inline float log_of_sum(double sum, float) {
  const float rounded = static_cast<float>(sum);
  return logf(rounded) + static_cast<float>(sum - static_cast<double>(rounded)) / rounded;
}

template <int kThreads, typename In>
__device__ inline RowStatistics<RealOf<In>> row_statistics(const In* row, int classes) {
  using Real = RealOf<In>;
  constexpr int kStep = kThreads * kHeld<In>;
  const int lane = RowThreads<kThreads>::lane();
  const Span span = Span::of<In>(0, classes, -elements_past_boundary(row));
  const int edge = span.edge<In>(lane);
  const Real lowest = -infinity<Real>();
  Real max = lowest, sum = Real(0), at_edge = edge < 0 ? lowest : to_real(row[edge]);
  for (int done = 0; done == 0 || done < span.vectors; done += kStep) {
    Real x[kHeld<In>][kVector<In>];
    Real largest = larger(at_edge, max);
#pragma unroll
    for (int h = 0; h < kHeld<In>; ++h) {
      const int vector = done + h * kThreads + lane;
#pragma unroll
      for (int i = 0; i < kVector<In>; ++i) x[h][i] = lowest;
      if (vector < span.vectors) load_vectors(row + span.first + vector * kVector<In>, x[h]);
#pragma unroll
      for (int i = 0; i < kVector<In>; ++i) largest = larger(x[h][i], largest);
    }
    largest = reduce_row<kThreads>(largest, Larger());
    // Of nothing but -inf up to here the sum is 0, and NaN if there was a NaN.
    const Real origin = largest == lowest ? Real(0) : largest;
    Real sums[kVector<In>] = {exp_of(at_edge - origin)};
#pragma unroll
    for (int h = 0; h < kHeld<In>; ++h)
#pragma unroll
      for (int i = 0; i < kVector<In>; ++i) sums[i] += exp_of(x[h][i] - origin);
    Real step_sum = Real(0);
#pragma unroll
    for (int i = 0; i < kVector<In>; ++i) step_sum += sums[i];
    sum = done == 0 ? step_sum : sum * exp_of(max - origin) + step_sum;
    max = largest, at_edge = lowest;
  }
  const double total = reduce_row<kThreads>(static_cast<double>(sum), Sum());
  // A row of nothing but -inf has no softmax.
  return {max, max == lowest ? not_a_number(Real(0)) : log_of_sum(total, Real(0))};
}

// From a logit to its probability.  In fp64 up to the fraction: in fp32 the rounding of (x - max) * log2(e) alone is
// 5e-7 of a probability near e^-10, as large as all other errors together.
template <typename Real>
__device__ inline Scaled<Real> emission_of(Real x, RowStatistics<Real> row) {
  constexpr double kLog2E = 1.4426950408889634;
  const double y =
      (static_cast<double>(x) - static_cast<double>(row.max)) * kLog2E - static_cast<double>(row.log_sum) * kLog2E;
  if (y == -infinity<double>()) return scaled_zero<Real>();
  const double held_y = y < kLowestEmission<Real> ? kLowestEmission<Real> : y;
  const double whole = rint(held_y);
  return {exp2_centred(static_cast<Real>(held_y - whole)), static_cast<IntOf<Real>>(whole)};
}

// One read of the logits: statistics of each row, and the emissions of blank and labels.
template <typename In, int kThreads>
__global__ void __launch_bounds__(kRowBlock, 2) ctc_emissions_kernel(Forward call) {
  using Real = RealOf<In>;
  using Row = RowThreads<kThreads>;
  const Problem& p = call.problem;
  const int64_t index = int64_t{blockIdx.x} * Row::kRows + threadIdx.x / kThreads;
  if (index >= p.frames * p.batch) return;
  const RowIndex at = row_index(p, index);
  const Utterance u = utterance_of(call, at.n);
  Real& row_max = static_cast<Real*>(p.row_max)[at.t * p.batch + at.n];
  Real& log_sum = static_cast<Real*>(p.log_sum)[at.t * p.batch + at.n];
  if (at.t >= u.frames) {
    if (Row::lane() == 0) row_max = Real(0), log_sum = at.t < u.valid_frames ? not_a_number(Real(0)) : infinity<Real>();
    return;
  }
  const In* row = static_cast<const In*>(p.logits) + at.t * p.stride_t + at.n * p.stride_n;
  const RowStatistics<Real> statistics = row_statistics<kThreads>(row, static_cast<int>(p.classes));
  if (Row::lane() == 0) row_max = statistics.max, log_sum = statistics.log_sum;

  Scaled<Real>* out = static_cast<Scaled<Real>*>(call.emissions) + row_of(p, u.target, u.labels, at.t);
  for (int slot = Row::lane(); slot <= u.labels; slot += kThreads) {
    const int64_t label = slot == 0 ? p.blank : label_at(p, u.target.start + slot - 1);
    // NaN passes through the whole recursion into the loss.
    out[slot] = statistics.log_sum == statistics.log_sum
                    ? emission_of(to_real(row[is_class(p, label) ? label : p.blank]), statistics)
                    : Scaled<Real>{not_a_number(Real(0)), 0};
  }
}

}  // namespace lisa::ctc
