// What an utterance writes: posteriors, its loss, and marks on the rows that have no gradient.
#pragma once
#include "ctc_utterance.h"

namespace lisa::LISA_CAPABILITY {

// Posteriors of a frame sum to 1.  Dividing them by their own sum removes the drift of the recursion, which would grow
// with T: 3.7e-5 instead of 4e-6 of the gradient at T=500 on trained-like logits.
template <typename Real>
void Utterance<Real>::write_posteriors(int64_t t, const Real* blank, Real* label) const {
  constexpr int kLanes = Simd<Real>::kLanes;
  VecOf<Real> blanks_sum{}, labels_sum{};
  for (int64_t j = 0; j < P; j += kLanes) blanks_sum += load(blank + j), labels_sum += load(label + j);
  const Real in_blanks = sum_lanes<Real>(blanks_sum), sum = in_blanks + sum_lanes<Real>(labels_sum);
  // Divided, not multiplied by a reciprocal: one rounding less where a posterior of nearly 1 meets a softmax of
  // nearly 1.
  const Real divisor = sum > 0 ? sum : 1;

  const CtcProblem& p = call->problem;
  Real* out = static_cast<Real*>(p.occupancy) + occupancy_offset(p, n) + t * occupancy_width(p, S);
  if (p.has_star) {
    double in_stars = 0;
    for (int64_t i = 0; i < star_count; ++i) in_stars += label[stars[i]];
    star_log_share(t) = static_cast<Real>(__builtin_log(in_stars / divisor) - star_log_share(t));
    if (!(in_stars > 0)) star_log_share(t) = -__builtin_inf();
  }
  if (!p.by_class) {
    out[0] = in_blanks / divisor;
    for (int64_t s = 0; s < S; ++s) out[s + 1] = label[s] / divisor;
    return;
  }
  for (int64_t c = 0; c < p.classes; ++c) out[c] = 0;
  out[p.blank] = in_blanks / divisor;
  // A loop of its own, since divisions are only fast as vectors.
  for (int64_t s = 0; s < S; ++s) label[s] /= divisor;
  // The star is in no class.
  for (int64_t i = 0; i < star_count; ++i) label[stars[i]] = 0;
  for (int64_t s = 0; s < S; ++s) out[labels[s]] += label[s];
}

template <typename Real>
void Utterance<Real>::finish() const {
  const CtcProblem& p = call->problem;
  const bool zero = call->zero_infinity && !faulty && !feasible;
  static_cast<Real*>(call->loss)[n] = zero ? Real(0) : static_cast<Real>(loss);

  Real* row_max = static_cast<Real*>(p.row_max);
  Real* log_sum = static_cast<Real*>(p.log_sum);
  const Real infinity = __builtin_inf();
  for (int64_t t = 0; t < p.frames; ++t) {
    const bool no_gradient = t >= valid_frames || (!faulty && !feasible);
    if (no_gradient || faulty) log_sum[row_index(t)] = no_gradient ? infinity : Real(__builtin_nan(""));
    if (t < valid_frames && !faulty) continue;
    row_max[row_index(t)] = 0;
    if (p.row_entropy) static_cast<Real*>(p.row_entropy)[row_index(t)] = 0;
    if (p.star_rows) static_cast<Real*>(p.star_rows)[row_index(t)] = star_log_share(t) = 0;
  }
  if (!call->save) return;
  Real* occupancy = static_cast<Real*>(p.occupancy);
  const int64_t written = feasible ? T * occupancy_width(p, S) : 0;
  const int64_t end = occupancy_end(p, n);
  for (int64_t i = occupancy_offset(p, n) + written; i < end; ++i) occupancy[i] = 0;
}

}  // namespace lisa::LISA_CAPABILITY
