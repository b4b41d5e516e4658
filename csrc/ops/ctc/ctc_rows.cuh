// The dense pass over the logits in forward: statistics of each row, and emissions.
#pragma once
#include "ctc_row_threads.cuh"
#include "ctc_target.cuh"

namespace lisa::ctc {

struct RowIndex {
  int64_t t, n;
};

// Rows of `batch` utterances in the order of memory, whichever of T and N comes first in it.
__device__ inline RowIndex row_index(const Problem& p, int64_t row, int64_t batch) {
  if (p.stride_t >= p.stride_n) return {row / batch, row % batch};
  return {row % p.frames, row / p.frames};
}
__device__ inline RowIndex row_index(const Problem& p, int64_t row) { return row_index(p, row, p.batch); }

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

// Of exp(x - max) over a row: the sum, and with kMoment that of exp(x - max) * (x - max).
template <typename Real>
struct RowSums {
  Real max;
  double sum, moment;
};

// Logits this far below the largest have an exponential of 0 in either precision; the product of both is 0, not NaN.
template <typename Real>
__device__ inline Real held_below(Real d) {
  return d < Real(-2000) ? Real(-2000) : d;
}

// `left_out` is a class that does not count, with kLeavesOut; -1 for none.
template <int kThreads, bool kLeavesOut, bool kMoment, typename In>
__device__ inline RowSums<RealOf<In>> sums_of_row(const In* row, int classes, [[maybe_unused]] int left_out) {
  using Real = RealOf<In>;
  constexpr int kStep = kThreads * kHeld<In>;
  const int lane = RowThreads<kThreads>::lane();
  const Span span = Span::of<In>(0, classes, -elements_past_boundary(row));
  const int edge = span.edge<In>(lane);
  const Real lowest = -infinity<Real>();
  Real max = lowest, at_edge = edge < 0 ? lowest : to_real(row[edge]);
  // Exponentials of 1 are counted apart: beside them the sum of the others would round by as much as a confident model
  // is unsure.
  Real ones = Real(0), others = Real(0), moment = Real(0);
  if constexpr (kLeavesOut)
    if (edge == left_out) at_edge = lowest;
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
      for (int i = 0; i < kVector<In>; ++i) {
        if constexpr (kLeavesOut)
          if (span.first + vector * kVector<In> + i == left_out) x[h][i] = lowest;
        largest = larger(x[h][i], largest);
      }
    }
    largest = reduce_row<kThreads>(largest, Larger());
    // Of nothing but -inf up to here the sum is 0, and NaN if there was a NaN.
    const Real origin = largest == lowest ? Real(0) : largest;
    Real step_ones = Real(0), step_others[kVector<In>] = {}, step_moment = Real(0);
    const auto add = [&](Real below_max, Real& sum) {
      const Real e = exp_of(below_max);
      if (e == Real(1))
        step_ones += e;
      else
        sum += e;
      if constexpr (kMoment) step_moment += e * held_below(below_max);
    };
    add(at_edge - origin, step_others[0]);
#pragma unroll
    for (int h = 0; h < kHeld<In>; ++h)
#pragma unroll
      for (int i = 0; i < kVector<In>; ++i) add(x[h][i] - origin, step_others[i]);
    const Real factor = exp_of(max - origin);
    if constexpr (kMoment) moment = (moment + (ones + others) * held_below(max - origin)) * factor + step_moment;
    if (factor != Real(1)) others = (ones + others) * factor, ones = Real(0);
    ones += step_ones;
#pragma unroll
    for (int i = 0; i < kVector<In>; ++i) others += step_others[i];
    max = largest, at_edge = lowest;
  }
  RowSums<Real> all{max, reduce_row<kThreads>(static_cast<double>(ones) + static_cast<double>(others), Sum()), 0};
  if constexpr (kMoment) all.moment = reduce_row<kThreads>(static_cast<double>(moment), Sum());
  return all;
}

template <int kThreads, typename In>
__device__ inline RowStatistics<RealOf<In>> row_statistics(const In* row, int classes) {
  using Real = RealOf<In>;
  const RowSums<Real> sums = sums_of_row<kThreads, false, false>(row, classes, -1);
  // A row of nothing but -inf has no softmax.
  return {sums.max, sums.max == -infinity<Real>() ? not_a_number(Real(0)) : log_of_sum(sums.sum, Real(0))};
}

// What a row gives beyond its softmax.
template <typename Real>
struct RowSummary {
  RowStatistics<Real> all;
  Real entropy;
  RowStatistics<Real> rest;  // the row without blank
  double log_star;           // log(1 - p_blank)
};

// 1 - p_blank cancels where blank is nearly certain: so with a star the other classes are summed on their own, and
// blank joins them at the end.
template <int kThreads, typename In>
__device__ inline RowSummary<RealOf<In>> summarise_row(const In* row, int classes, int blank, bool has_star) {
  using Real = RealOf<In>;
  const RowSums<Real> sums = sums_of_row<kThreads, true, true>(row, classes, has_star ? blank : -1);
  const bool is_empty = sums.max == -infinity<Real>() && !(sums.sum != sums.sum);
  if (!has_star) {
    const Real log_sum = is_empty ? not_a_number(Real(0)) : log_of_sum(sums.sum, Real(0));
    return {{sums.max, log_sum}, static_cast<Real>(log_sum - sums.moment / sums.sum), {Real(0), Real(0)}, 0};
  }
  const Real x_blank = to_real(row[blank]), rest_max = is_empty ? Real(0) : sums.max;
  const Real top = is_empty || x_blank > rest_max ? x_blank : rest_max;
  const double lower = static_cast<double>(rest_max) - top, scale = is_empty ? 0 : exp(lower);
  const double of_blank = static_cast<double>(x_blank) - top, e_blank = exp(of_blank);
  const double total = scale * sums.sum + e_blank, log_total = log(total), log_rest = log(sums.sum);
  double moment = e_blank == 0 ? 0 : e_blank * of_blank;
  if (scale != 0) moment += scale * (sums.moment + lower * sums.sum);
  return {{top, log_of_sum(total, Real(0))},
          static_cast<Real>(log_total - moment / total),
          {rest_max, static_cast<Real>(log_rest)},
          is_empty ? -infinity<double>() : lower + log_rest - log_total};
}

constexpr double kLog2E = 1.4426950408889634;

// 2^y.
template <typename Real>
__device__ inline Scaled<Real> split(double y) {
  if (y == -infinity<double>()) return scaled_zero<Real>();
  const double held_y = larger(smaller(y, -kLowestEmission<Real>), kLowestEmission<Real>);
  const double whole = rint(held_y);
  return {exp2_centred(static_cast<Real>(held_y - whole)), static_cast<IntOf<Real>>(whole)};
}

// Base-2 logarithm of the probability of a logit.  In fp64: in fp32 the rounding of (x - max) * log2(e) alone is 5e-7
// of a probability near e^-10, as large as all other errors together.
template <typename Real>
__device__ inline double log2_probability(Real x, RowStatistics<Real> row) {
  return (static_cast<double>(x) - static_cast<double>(row.max)) * kLog2E - static_cast<double>(row.log_sum) * kLog2E;
}

// What a pass over a row of forward is about: where the row lies among those of [T, N].
template <typename In, int kThreads>
struct ForwardRow {
  using Real = RealOf<In>;
  const Forward& call;
  RowIndex at;

  __device__ Real& of(void* rows) const { return static_cast<Real*>(rows)[at.t * call.problem.batch + at.n]; }
  __device__ Real* star_rows() const { return static_cast<Real*>(call.problem.star_rows); }
  __device__ Real& log_share() const { return of(star_rows() + call.problem.frames * call.problem.batch); }
  __device__ const In* logits() const {
    const Problem& p = call.problem;
    return static_cast<const In*>(p.logits) + at.t * p.stride_t + at.n * p.stride_n;
  }
};

// One read of the logits: statistics of each row, and the emissions of blank and labels.  kOptions: with entropy, star
// or priors, as far as they are asked for.
template <typename In, int kThreads, bool kOptions>
__global__ void __launch_bounds__(kRowBlock, 2) ctc_emissions_kernel(Forward call) {
  using Real = RealOf<In>;
  using Row = RowThreads<kThreads>;
  const Problem& p = call.problem;
  const int64_t index = int64_t{blockIdx.x} * Row::kRows + threadIdx.x / kThreads;
  if (index >= p.frames * p.batch) return;
  const ForwardRow<In, kThreads> own{call, row_index(p, index)};
  const RowIndex at = own.at;
  const Utterance u = utterance_of(call, at.n);
  const bool is_first = Row::lane() == 0;
  if (at.t >= u.frames) {
    if (!is_first) return;
    own.of(p.row_max) = Real(0);
    own.of(p.log_sum) = at.t < u.valid_frames ? not_a_number(Real(0)) : infinity<Real>();
    if constexpr (kOptions) {
      if (p.row_entropy) own.of(p.row_entropy) = Real(0);
      if (p.has_star) own.of(p.star_rows) = Real(0), own.log_share() = -infinity<Real>();
    }
    return;
  }
  const In* row = own.logits();
  RowStatistics<Real> statistics;
  [[maybe_unused]] double log_star = 0;
  if constexpr (kOptions) {
    const RowSummary<Real> summary =
        summarise_row<kThreads>(row, static_cast<int>(p.classes), static_cast<int>(p.blank), p.has_star);
    statistics = summary.all, log_star = summary.log_star - call.star_penalty;
    if (is_first && p.row_entropy) own.of(p.row_entropy) = summary.entropy;
    // Of the share only the log-sum: the occupancies are not known yet.
    if (is_first && p.has_star) own.of(p.star_rows) = summary.rest.max, own.log_share() = summary.rest.log_sum;
  } else {
    statistics = row_statistics<kThreads>(row, static_cast<int>(p.classes));
  }
  if (is_first) own.of(p.row_max) = statistics.max, own.of(p.log_sum) = statistics.log_sum;

  Scaled<Real>* out = static_cast<Scaled<Real>*>(call.emissions) + row_of(p, u.target, u.labels, at.t);
  for (int slot = Row::lane(); slot <= u.labels; slot += kThreads) {
    const int64_t label = slot == 0 ? p.blank : label_at(p, u.target.start + slot - 1);
    const int64_t c = is_class(p, label) ? label : p.blank;
    double y = log2_probability(to_real(row[c]), statistics);
    if constexpr (kOptions) {
      if (call.log_priors) y -= static_cast<double>(static_cast<const Real*>(call.log_priors)[c]) * kLog2E;
      if (slot > 0 && is_star(p, label)) y = log_star * kLog2E;
    }
    // NaN passes through the whole recursion into the loss.
    out[slot] = statistics.log_sum == statistics.log_sum ? split<Real>(y) : Scaled<Real>{not_a_number(Real(0)), 0};
  }
}

}  // namespace lisa::ctc
