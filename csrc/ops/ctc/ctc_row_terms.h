// What a row of logits gives beyond its softmax: entropy, the star's emission, the divergence of two views, and their
// gradients.
#pragma once
#include "ctc_rows.h"

namespace lisa::LISA_CAPABILITY {

// One pass over a row.  `rest` is the row without blank.
template <typename Real>
struct RowSummary {
  RowStatistics<Real> all;
  Real entropy;
  RowStatistics<Real> rest;
  double log_star;  // log(1 - p_blank)
};

template <typename Real>
static inline double sum_of(const Chains<Real>& chains) {
  return sum_lanes_in_fp64<Real>(chains);
}

// 1 - p_blank cancels where blank is nearly certain: so the other classes are summed on their own, and blank joins them
// at the end.
template <bool kStar, bool kEntropy, typename Real, typename In>
static inline RowSummary<Real> summarise_row(const In* x, const In* ahead, int64_t classes, int64_t blank) {
  if constexpr (!kStar && !kEntropy) return {row_statistics<Real>(x, ahead, classes), 0, {0, 0}, 0};
  constexpr double kInfinity = __builtin_inf();
  Chains<Real> m, s, a;
  for (int k = 0; k < 4; ++k) m[k] = VecOf<Real>{} - Real(kInfinity), s[k] = VecOf<Real>{}, a[k] = VecOf<Real>{};
  const auto before = Stretch<Real, In>::of(x, kStar ? blank : classes);
  const auto behind = Stretch<Real, In>::of(x + (kStar ? blank + 1 : classes), kStar ? classes - blank - 1 : 0);
  find_largest(before, m);
  find_largest(behind, m);
  const Real found = largest<Real>(m);
  // Finite, so that a rest of nothing but -inf sums to 0 instead of NaN.
  const Real max = kStar && found == -Real(kInfinity) ? Real(0) : found;
  add_exps<kEntropy>(before, ahead, max, s, a);
  add_exps<kEntropy>(behind, kStar ? ahead + blank + 1 : ahead, max, s, a);
  const double sum = sum_of<Real>(s), moment = kEntropy ? sum_of<Real>(a) : 0;
  if constexpr (!kStar) {
    const double log_sum = __builtin_log(sum);
    return {{max, static_cast<Real>(log_sum)}, static_cast<Real>(log_sum - moment / sum), {0, 0}, 0};
  }
  const Real x_blank = to_real(x[blank]);
  const bool only_blank = sum == 0;
  const Real top = only_blank || x_blank > max ? x_blank : max;
  const double lower = static_cast<double>(max) - top;
  const double scale = only_blank ? 0 : __builtin_exp(lower);
  const double d_blank = static_cast<double>(x_blank) - top, e_blank = __builtin_exp(d_blank);
  const double total = scale * sum + e_blank, log_total = __builtin_log(total), log_rest = __builtin_log(sum);
  RowSummary<Real> row{{top, static_cast<Real>(log_total)}, 0, {max, static_cast<Real>(log_rest)}, 0};
  row.log_star = only_blank ? -kInfinity : lower + log_rest - log_total;
  if constexpr (kEntropy) {
    double all = e_blank == 0 ? 0 : e_blank * d_blank;
    if (scale != 0) all += scale * (moment + lower * sum);
    row.entropy = static_cast<Real>(log_total - all / total);
  }
  return row;
}

// KL(p' | p) of a row x against its other view y, and of y against x.  Differences of logits below their largest, and
// of log-sums below them: one large log-sum-exp would lose the digits.
template <typename Real>
struct Divergences {
  Real of_x, of_y;
};

template <typename Real, typename In>
static inline Divergences<Real> row_divergences(const In* x, const In* y, int64_t classes, RowStatistics<Real> row_x,
                                                RowStatistics<Real> row_y) {
  using Vec = VecOf<Real>;
  constexpr int kLanes = Simd<Real>::kLanes;
  Chains<Real> of_x, of_y;
  for (int k = 0; k < 4; ++k) of_x[k] = Vec{}, of_y[k] = Vec{};
  const auto add = [&](Vec dx, Vec dy, int k) {
    const Vec ex = exp_nonpositive(dx), ey = exp_nonpositive(dy), zero{};
    // A class that is impossible counts 0 in its own expectation; NaN comes back with the log-sums.
    of_x[k] += ey > zero ? ey * (dy - dx) : zero;
    of_y[k] += ex > zero ? ex * (dx - dy) : zero;
  };
  int64_t c = 0;
  for (; c + 2 * kLanes <= classes; c += 2 * kLanes)
    for (int k = 0; k < 2; ++k) add(load(x + c + k * kLanes) - row_x.max, load(y + c + k * kLanes) - row_y.max, k);
  for (; c < classes; c += kLanes) {
    const int count = static_cast<int>(classes - c < kLanes ? classes - c : kLanes);
    const Vec filler_x = load_some<Real>(x + c, count, Real(-__builtin_inf())) - row_x.max;
    const Vec filler_y = load_some<Real>(y + c, count, Real(-__builtin_inf())) - row_y.max;
    add(filler_x, filler_y, 2);
  }
  const double lx = row_x.log_sum, ly = row_y.log_sum;
  return {static_cast<Real>(sum_of<Real>(of_x) * __builtin_exp(-ly) - (ly - lx)),
          static_cast<Real>(sum_of<Real>(of_y) * __builtin_exp(-lx) - (lx - ly))};
}

// For each vector of a row: `change(x, row)` with the logits' and the row's values, the result stored in the row.
template <typename Real, typename In, typename Change>
static inline void change_row(const In* x, Real* row, int64_t classes, Real filler, Change change) {
  constexpr int kLanes = Simd<Real>::kLanes;
  int64_t c = 0;
  for (; c + kLanes <= classes; c += kLanes) store(row + c, change(load(x + c), load(row + c)));
  if (c == classes) return;
  const int rest = static_cast<int>(classes - c);
  store_some<Real>(row + c, change(load_some<Real>(x + c, rest, filler), load_some<Real>(row + c, rest, Real(0))),
                   rest);
}

// row -= posterior of the star * softmax without blank.  `log_share`: the posterior's logarithm less the rest's
// log-sum.
template <typename Real, typename In>
static inline void subtract_star(const In* x, Real* row, int64_t classes, int64_t blank, Real rest_max,
                                 Real log_share) {
  if (log_share == -Real(__builtin_inf())) return;
  const Real in_blank = row[blank];
  change_row(x, row, classes, rest_max, [=](VecOf<Real> logits, VecOf<Real> values) {
    return values - exp_nonpositive((logits - rest_max) + log_share);
  });
  row[blank] = in_blank;
}

// row = weight * row - entropy_weight * p (log p + entropy).
template <typename Real, typename In>
static inline void add_entropy(const In* x, Real* row, int64_t classes, RowStatistics<Real> statistics, Real entropy,
                               Real weight, Real entropy_weight) {
  const Real scale = static_cast<Real>(__builtin_exp(-static_cast<double>(statistics.log_sum))) * entropy_weight;
  const Real shift = entropy - statistics.log_sum, max = statistics.max;
  change_row(x, row, classes, max, [=](VecOf<Real> logits, VecOf<Real> values) {
    const VecOf<Real> d = logits - max;
    return weight * values - exp_nonpositive(d) * scale * (held<Real>(d) + shift);
  });
}

// row_x += weight_x * (p - p'), and row_y += weight_y * (p' - p): the gradient of both views' divergences.
template <typename Real, typename In>
static inline void add_consistency(const In* x, const In* y, Real* row_x, Real* row_y, int64_t classes,
                                   RowStatistics<Real> of_x, RowStatistics<Real> of_y, Real weight_x, Real weight_y) {
  const Real scale_x = static_cast<Real>(__builtin_exp(-static_cast<double>(of_x.log_sum)));
  const Real scale_y = static_cast<Real>(__builtin_exp(-static_cast<double>(of_y.log_sum)));
  constexpr int kLanes = Simd<Real>::kLanes;
  for (int64_t c = 0; c < classes; c += kLanes) {
    const int count = static_cast<int>(classes - c < kLanes ? classes - c : kLanes);
    const bool whole = count == kLanes;
    const VecOf<Real> logits_x = whole ? load(x + c) : load_some<Real>(x + c, count, of_x.max);
    const VecOf<Real> logits_y = whole ? load(y + c) : load_some<Real>(y + c, count, of_y.max);
    const VecOf<Real> difference =
        exp_nonpositive(logits_x - of_x.max) * scale_x - exp_nonpositive(logits_y - of_y.max) * scale_y;
    // The rows have room for whole vectors.
    store(row_x + c, load(row_x + c) + difference * weight_x);
    store(row_y + c, load(row_y + c) - difference * weight_y);
  }
}

}  // namespace lisa::LISA_CAPABILITY
