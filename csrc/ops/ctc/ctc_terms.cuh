// Entropy and consistency of the utterances.
#pragma once
#include "ctc_rows.cuh"

namespace lisa::ctc {

// The other view of an utterance, where the second half of a batch holds other views of the first.
__device__ inline int64_t partner_of(const Problem& p, int64_t n) { return (n + p.batch / 2) % p.batch; }

// KL(p' | p) of the rows of both views of an utterance, and of p against p': after the recursion, when it is known
// which utterances have an alignment.  Differences of logits below their largest, and of log-sums below them: one large
// log-sum-exp would lose the digits.
template <typename In, int kThreads>
__global__ void __launch_bounds__(kRowBlock, 2) ctc_divergences_kernel(Forward call) {
  using Real = RealOf<In>;
  using Row = RowThreads<kThreads>;
  const Problem& p = call.problem;
  const int64_t half = p.batch / 2, index = int64_t{blockIdx.x} * Row::kRows + threadIdx.x / kThreads;
  if (index >= p.frames * half) return;
  const RowIndex at = row_index(p, index, half);
  const ForwardRow<In, kThreads> one{call, at}, two{call, {at.t, at.n + half}};
  const Real max_x = one.of(p.row_max), max_y = two.of(p.row_max);
  const Real log_x = one.of(p.log_sum), log_y = two.of(p.log_sum);
  // Neither is looked at where one has no gradient or a fault.
  if (!(log_x < infinity<Real>()) || !(log_y < infinity<Real>())) return;
  const In *x = one.logits(), *y = two.logits();
  Real of_x = Real(0), of_y = Real(0);
  const auto add = [&](Real at_x, Real at_y) {
    const Real dx = at_x - max_x, dy = at_y - max_y, ex = exp_of(dx), ey = exp_of(dy);
    // A class that is impossible counts 0 in its own expectation.
    of_x += ey > Real(0) ? ey * (dy - dx) : Real(0);
    of_y += ex > Real(0) ? ex * (dx - dy) : Real(0);
  };
  const int lane = Row::lane(), classes = static_cast<int>(p.classes), lead = elements_past_boundary(x);
  const bool is_aligned = elements_past_boundary(y) == lead;
  const Span span = Span::of<In>(0, is_aligned ? classes : 0, -lead);
  if (const int edge = span.edge<In>(lane); edge >= 0) add(to_real(x[edge]), to_real(y[edge]));
  for (int v = lane; v < span.vectors; v += kThreads) {
    Real in_x[kVector<In>], in_y[kVector<In>];
    load_vectors(x + span.first + v * kVector<In>, in_x);
    load_vectors(y + span.first + v * kVector<In>, in_y);
#pragma unroll
    for (int i = 0; i < kVector<In>; ++i) add(in_x[i], in_y[i]);
  }
  if (!is_aligned) {
#pragma unroll 1
    for (int c = lane; c < classes; c += kThreads) add(to_real(x[c]), to_real(y[c]));
  }
  const double sum_x = reduce_row<kThreads>(static_cast<double>(of_x), Sum());
  const double sum_y = reduce_row<kThreads>(static_cast<double>(of_y), Sum());
  if (lane != 0) return;
  const double l_x = log_x, l_y = log_y;
  one.of(call.row_divergence) = static_cast<Real>(sum_x * exp(-l_y) - (l_y - l_x));
  two.of(call.row_divergence) = static_cast<Real>(sum_y * exp(-l_x) - (l_x - l_y));
}

// The rows' terms to those of utterances, in a fixed order: a block each.
template <typename Real>
__global__ void __launch_bounds__(kRowBlock) ctc_terms_kernel(Forward call) {
  const Problem& p = call.problem;
  const int64_t n = blockIdx.x, other = partner_of(p, n);
  const Real* log_sum = static_cast<const Real*>(p.log_sum);
  double entropy = 0, consistency = 0;
  for (int64_t t = threadIdx.x; t < p.frames; t += kRowBlock) {
    const Real own = log_sum[t * p.batch + n];
    if (own == infinity<Real>()) continue;
    // A NaN among the log-sums makes its sums NaN.
    if (call.entropy) entropy += own != own ? own : static_cast<const Real*>(p.row_entropy)[t * p.batch + n];
    if (!call.consistency) continue;
    const Real others = log_sum[t * p.batch + other];
    if (others == infinity<Real>()) continue;
    const bool is_fault = own != own || others != others;
    consistency += is_fault ? not_a_number(Real(0)) : static_cast<const Real*>(call.row_divergence)[t * p.batch + n];
  }
  entropy = reduce_row<kRowBlock>(entropy, Sum());
  consistency = reduce_row<kRowBlock>(consistency, Sum());
  if (threadIdx.x != 0) return;
  if (call.entropy) static_cast<Real*>(call.entropy)[n] = static_cast<Real>(entropy);
  if (call.consistency) static_cast<Real*>(call.consistency)[n] = static_cast<Real>(consistency);
}

}  // namespace lisa::ctc
