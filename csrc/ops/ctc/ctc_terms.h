// Entropy and consistency of an utterance, from the rows'.
#pragma once
#include "ctc_row_terms.h"

namespace lisa::LISA_CAPABILITY {

template <typename Real>
static inline RowStatistics<Real> saved_statistics(const CtcProblem& p, int64_t t, int64_t n) {
  const int64_t index = t * p.batch + n;
  return {static_cast<const Real*>(p.row_max)[index], static_cast<const Real*>(p.log_sum)[index]};
}

// The divergences of frame t of utterance n, in the first half of the batch, and of its other view.
template <typename Real, typename In>
static inline void compare_views(const CtcForward& p, int64_t t, int64_t n) {
  const CtcProblem& problem = p.problem;
  const int64_t other = partner_of(problem, n);
  const In* frame = static_cast<const In*>(problem.logits) + t * problem.stride_t;
  const Divergences<Real> found =
      row_divergences(frame + n * problem.stride_n, frame + other * problem.stride_n, problem.classes,
                      saved_statistics<Real>(problem, t, n), saved_statistics<Real>(problem, t, other));
  Real* divergence = static_cast<Real*>(p.row_divergence) + t * problem.batch;
  divergence[n] = found.of_x, divergence[other] = found.of_y;
}

// After all utterances are finished: only then it is known which have an alignment.
template <typename Real>
static inline void sum_terms(const CtcForward& p, int64_t n) {
  const CtcProblem& problem = p.problem;
  const Real* log_sum = static_cast<const Real*>(problem.log_sum);
  const int64_t other = partner_of(problem, n);
  double entropy = 0, consistency = 0;
  for (int64_t t = 0; t < problem.frames; ++t) {
    const Real own = log_sum[t * problem.batch + n];
    if (own == Real(__builtin_inf())) continue;
    // A NaN among the log-sums makes its sums NaN.
    const double fault = own != own ? own : 0;
    if (p.entropy) entropy += static_cast<const Real*>(problem.row_entropy)[t * problem.batch + n] + fault;
    if (!p.consistency) continue;
    const Real others = log_sum[t * problem.batch + other];
    if (others == Real(__builtin_inf())) continue;
    if (fault != 0 || others != others)
      consistency = __builtin_nan("");
    else
      consistency += static_cast<const Real*>(p.row_divergence)[t * problem.batch + n];
  }
  if (p.entropy) static_cast<Real*>(p.entropy)[n] = static_cast<Real>(entropy);
  if (p.consistency) static_cast<Real*>(p.consistency)[n] = static_cast<Real>(consistency);
}

}  // namespace lisa::LISA_CAPABILITY
