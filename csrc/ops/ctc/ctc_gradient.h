// The gradient on the logits, a row or a pair of rows at a time.
#pragma once
#include <omp.h>

#include "ctc_row_terms.h"
#include "ctc_terms.h"

namespace lisa::LISA_CAPABILITY {

// row -= occupancy, by position.  A class that stands at several positions is subtracted several times, in the order of
// the target; a star is in no class.  Lengths and labels may have been changed since forward looked at them: they stay
// within bounds.
template <typename Real, typename Label>
static void subtract_positions(const CtcProblem& p, const Label* label, int64_t labels, const Real* occupancy,
                               Real* row) {
  row[p.blank] -= occupancy[0];
  for (int64_t s = 0; s < labels; ++s)
    if (static_cast<uint64_t>(label[s]) < static_cast<uint64_t>(p.classes)) row[label[s]] -= occupancy[s + 1];
}

template <typename Real>
static void subtract_occupancy(const CtcProblem& p, int64_t n, int64_t t, Real* row) {
  const int64_t offset = p.target_offsets[n], room = p.target_ends[n] - offset;
  const int64_t labels = p.target_lengths[n] < 0 ? 0 : p.target_lengths[n] < room ? p.target_lengths[n] : room;
  const Real* occupancy =
      static_cast<const Real*>(p.occupancy) + occupancy_offset(p, n) + t * occupancy_width(p, labels);
  if (p.by_class) {
    for (int64_t c = 0; c < p.classes; ++c) row[c] -= occupancy[c];
  } else if (p.targets_are_int32) {
    subtract_positions(p, static_cast<const int32_t*>(p.targets) + offset, labels, occupancy, row);
  } else {
    subtract_positions(p, static_cast<const int64_t*>(p.targets) + offset, labels, occupancy, row);
  }
}

// One row of the gradient.
template <typename Real, typename In>
struct GradientRow {
  const CtcBackward& b;
  int64_t t, n;
  Real* in_cache;  // where it is put together: it leaves the L1 cache once
  RowStatistics<Real> statistics;

  static GradientRow at(const CtcBackward& b, int64_t t, int64_t n, Real* in_cache) {
    return {b, t, n, in_cache, saved_statistics<Real>(b.problem, t, n)};
  }

  const In* logits() const {
    return static_cast<const In*>(b.problem.logits) + t * b.problem.stride_t + n * b.problem.stride_n;
  }
  In* out() const { return static_cast<In*>(b.grad_logits) + t * b.grad_stride_t + n * b.grad_stride_n; }
  Real saved(const void* rows) const { return static_cast<const Real*>(rows)[t * b.problem.batch + n]; }
  Real upstream(const void* grads) const { return static_cast<const Real*>(grads)[n]; }
  bool is_idle() const { return statistics.log_sum == Real(__builtin_inf()); }
  bool is_nan() const { return statistics.log_sum != statistics.log_sum; }

  void fill(Real value) const {
    In filler;
    from_real(value, filler);
    In* grad = out();
    for (int64_t c = 0; c < b.problem.classes; ++c) grad[c] = filler;
  }
  // Of the loss before the upstream gradient.
  void begin() const {
    const CtcProblem& p = b.problem;
    row_softmax<Real>(logits(), in_cache, p.classes, statistics);
    if (p.star_rows) {
      const Real* log_share = static_cast<const Real*>(p.star_rows) + p.frames * p.batch;
      subtract_star(logits(), in_cache, p.classes, p.blank, saved(p.star_rows), saved(log_share));
    }
    subtract_occupancy(p, n, t, in_cache);
  }
  // Of loss and entropy, times the upstream gradients.
  void weigh() const {
    const CtcProblem& p = b.problem;
    const Real weight = upstream(b.grad_loss);
    if (b.grad_entropy)
      add_entropy(logits(), in_cache, p.classes, statistics, saved(p.row_entropy), weight, upstream(b.grad_entropy));
    else
      for (int64_t c = 0; c < p.classes; ++c) in_cache[c] *= weight;
  }
};

// Gradients from this size on are written past the caches.
template <typename In>
static bool is_streamed(const CtcProblem& p) {
  return p.frames * p.batch * p.classes * static_cast<int64_t>(sizeof(In)) >= kStreamedBytes;
}

// Inline in the loop over rows, and the pairs out of it: 0.131 instead of 0.165 ms for 6400 rows of 32 classes.
template <typename Real, typename In>
[[gnu::always_inline]] static inline void write_gradient(const GradientRow<Real, In>& row, bool streamed) {
  if (row.is_idle()) return row.fill(0);
  if (row.is_nan()) return row.fill(row.statistics.log_sum);
  row.begin();
  Real weight = row.upstream(row.b.grad_loss);
  if (row.b.grad_entropy) row.weigh(), weight = 1;
  // Times the upstream gradient last: where softmax and occupancy cancel, their roundings are all that is left.
  write_row(row.in_cache, weight, row.out(), row.b.problem.classes, streamed);
}

// Both views of an utterance at one frame, each read once.
template <typename Real, typename In>
[[gnu::noinline]] static void write_gradients(const GradientRow<Real, In>& x, const GradientRow<Real, In>& y,
                                              bool streamed) {
  if (x.is_idle() || y.is_idle()) return write_gradient(x, streamed), write_gradient(y, streamed);
  // Each view's gradient holds the distribution of the other.
  if (x.is_nan() || y.is_nan()) return x.fill(__builtin_nan("")), y.fill(__builtin_nan(""));
  x.begin(), x.weigh();
  y.begin(), y.weigh();
  const int64_t classes = x.b.problem.classes;
  add_consistency(x.logits(), y.logits(), x.in_cache, y.in_cache, classes, x.statistics, y.statistics,
                  x.upstream(x.b.grad_consistency), y.upstream(y.b.grad_consistency));
  write_row(x.in_cache, Real(1), x.out(), classes, streamed);
  write_row(y.in_cache, Real(1), y.out(), classes, streamed);
}

template <typename Real, typename In>
static void gradient(const CtcBackward& b, int threads) {
  const CtcProblem& p = b.problem;
  const bool streamed = is_streamed<In>(p), pairs = b.grad_consistency != nullptr;
  // Along the memory, whichever of T and N comes first in it.
  const bool frames_outside = p.stride_t >= p.stride_n;
  const int64_t at_once = pairs ? p.batch / 2 : p.batch;
#pragma omp parallel num_threads(threads)
  {
    char* scratch = b.scratch + 2 * omp_get_thread_num() * b.row_bytes;
    Real *first = reinterpret_cast<Real*>(scratch), *second = reinterpret_cast<Real*>(scratch + b.row_bytes);
#pragma omp for schedule(static)
    for (int64_t r = 0; r < p.frames * at_once; ++r) {
      const int64_t t = frames_outside ? r / at_once : r % p.frames;
      const int64_t n = frames_outside ? r % at_once : r / p.frames;
      const auto row = GradientRow<Real, In>::at(b, t, n, first);
      if (pairs)
        write_gradients(row, GradientRow<Real, In>::at(b, t, n + p.batch / 2, second), streamed);
      else
        write_gradient(row, streamed);
    }
    finish_streaming();
  }
}

}  // namespace lisa::LISA_CAPABILITY
