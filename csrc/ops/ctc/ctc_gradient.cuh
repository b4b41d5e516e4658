// The dense pass of backward: grad = weight * (softmax - occupancy), one read of the logits and one write.
#pragma once
#include "ctc_rows.cuh"

namespace lisa::ctc {

// Classes of a row whose occupancies are spread out in shared memory at a time: 32 KiB a block.
template <typename Real, int kThreads>
constexpr int kSpread = kThreads * 128 / static_cast<int>(sizeof(Real));

// The occupancies of one frame.
template <typename Real>
struct Occupancies {
  const Real* row;
  const Slot* sorted;  // null: one for each class
  int slots;
  int64_t classes;
};

template <typename Real>
__device__ inline Occupancies<Real> occupancies_of(const Problem& p, int64_t t, int64_t n) {
  const Real* all = static_cast<const Real*>(p.occupancy);
  if (p.by_class) return {all + (n * p.frames + t) * p.classes, nullptr, 0, p.classes};
  const Target target = target_of(p, n);
  return {all + row_of(p, target, target.labels, t), static_cast<const Slot*>(p.sorted_slots) + target.position,
          target.labels + 1, p.classes};
}

// Those of classes [begin, end) to `out`, by all threads of a row: each logit can then be read and its gradient written
// once, although a class may stand at several positions.
template <int kThreads, typename Real>
__device__ inline void spread(const Occupancies<Real>& from, int begin, int end, Real* out) {
  const int lane = RowThreads<kThreads>::lane();
  for (int c = begin + lane; c < end; c += kThreads) out[c - begin] = from.sorted ? Real(0) : from.row[c];
  RowThreads<kThreads>::sync();
  for (int i = lane; i < from.slots; i += kThreads) {
    const int32_t c = from.sorted[i].class_number;
    if (c < begin || c >= end) continue;
    Real share;
    if (sum_of_class(from.classes, from.sorted, from.slots, i, from.row, share)) out[c - begin] = share;
  }
  RowThreads<kThreads>::sync();
}

// A row of logits and where its gradient goes, perhaps over it.
template <typename Out>
struct GradientRow {
  using Real = RealOf<Out>;
  const Out* logits;
  Out* grad;
  RowStatistics<Real> statistics;

  __device__ GradientRow(const Backward& call, int64_t t, int64_t n)
      : logits(static_cast<const Out*>(call.problem.logits) + t * call.problem.stride_t + n * call.problem.stride_n),
        grad(static_cast<Out*>(call.grad_logits) + t * call.grad_stride_t + n * call.grad_stride_n),
        statistics{static_cast<const Real*>(call.problem.row_max)[t * call.problem.batch + n],
                   static_cast<const Real*>(call.problem.log_sum)[t * call.problem.batch + n]} {}

  __device__ bool is_idle() const { return statistics.log_sum == infinity<Real>(); }
  __device__ bool is_nan() const { return statistics.log_sum != statistics.log_sum; }
  // How far the gradient lies past a 128-bit boundary.
  __device__ int lead() const { return elements_past_boundary(grad); }

  template <int kThreads>
  __device__ void fill(int classes, Real value) const {
    const Span span = Span::of<Out>(0, classes, -lead());
    const int lane = RowThreads<kThreads>::lane();
    Real filler[kVector<Out>];
#pragma unroll
    for (int i = 0; i < kVector<Out>; ++i) filler[i] = value;
    if (const int edge = span.edge<Out>(lane); edge >= 0) from_real(value, grad[edge]);
    for (int v = lane; v < span.vectors; v += kThreads) store_vector(grad + span.first + v * kVector<Out>, filler);
  }
  // Whether that is all there is to do.
  template <int kThreads>
  __device__ bool fills(int classes) const {
    if (!is_idle() && !is_nan()) return false;
    fill<kThreads>(classes, is_nan() ? statistics.log_sum : Real(0));
    return true;
  }
};

// Writes the gradients of one row, or of two together.  `change(x, shares, c)` turns the rows' logits of class c into
// their gradients.  Each element is read before it is written, and by the same thread.
template <int kThreads, int kRows, typename Out, typename Change>
__device__ inline void write_rows(const GradientRow<Out> (&rows)[kRows],
                                  const Occupancies<RealOf<Out>> (&occupancies)[kRows], int classes,
                                  RealOf<Out>* spread_out, const Change& change) {
  using Real = RealOf<Out>;
  constexpr int kTile = kSpread<Real, kThreads> / kRows;
  // Vectors of a row that a thread reads before it writes the first.
  constexpr int kBatch = 2 / kRows;
  const int lane = RowThreads<kThreads>::lane(), lead = rows[0].lead();
  bool is_aligned = true;
#pragma unroll
  for (const auto& row : rows) is_aligned &= row.lead() == lead && elements_past_boundary(row.logits) == lead;
  for (int tile = -lead; tile < classes; tile += kTile) {
    const int begin = larger(tile, 0), end = smaller(tile + kTile, classes);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      spread<kThreads>(occupancies[r], begin, end, spread_out + r * kTile + (begin - tile));
    const auto write_one = [&](int c) {
      Real x[kRows], share[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) x[r] = to_real(rows[r].logits[c]), share[r] = spread_out[r * kTile + c - tile];
      change(x, share, c);
#pragma unroll
      for (int r = 0; r < kRows; ++r) from_real(x[r], rows[r].grad[c]);
    };
    // Rows of another stride modulo 128 bits: an element at a time.
    const Span span = Span::of<Out>(begin, is_aligned ? end : begin, tile);
    if (const int edge = span.edge<Out>(lane); edge >= 0) write_one(edge);
    for (int v = lane; v < span.vectors; v += kBatch * kThreads) {
      Real x[kBatch][kRows][kVector<Out>];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        if (v + b * kThreads >= span.vectors) continue;
        const int first = span.first + (v + b * kThreads) * kVector<Out>;
#pragma unroll
        for (int r = 0; r < kRows; ++r) load_vectors(rows[r].logits + first, x[b][r]);
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        if (v + b * kThreads >= span.vectors) continue;
        const int first = span.first + (v + b * kThreads) * kVector<Out>;
        Real shares[kRows][kVector<Out>];
#pragma unroll
        for (int r = 0; r < kRows; ++r) load_vectors(spread_out + r * kTile + (first - tile), shares[r]);
#pragma unroll
        for (int i = 0; i < kVector<Out>; ++i) {
          Real values[kRows], share[kRows];
#pragma unroll
          for (int r = 0; r < kRows; ++r) values[r] = x[b][r][i], share[r] = shares[r][i];
          change(values, share, first + i);
#pragma unroll
          for (int r = 0; r < kRows; ++r) x[b][r][i] = values[r];
        }
#pragma unroll
        for (int r = 0; r < kRows; ++r) store_vector(rows[r].grad + first, x[b][r]);
      }
    }
    if (!is_aligned)
      for (int c = begin + lane; c < end; c += kThreads) write_one(c);
    RowThreads<kThreads>::sync();
  }
}

// 1 / sum, exact to half an ulp near 1: there softmax and occupancy of a confident model cancel.
template <typename Real>
__device__ inline Real scale_of(RowStatistics<Real> row) {
  return Real(1) + expm1_of(-row.log_sum);
}

template <typename Out, int kThreads>
__global__ void __launch_bounds__(kRowBlock, 3) ctc_gradient_kernel(Backward call) {
  using Real = RealOf<Out>;
  using Row = RowThreads<kThreads>;
  constexpr int kTile = kSpread<Real, kThreads>;
  __shared__ alignas(16) Real spread_out[Row::kRows * kTile];
  const Problem& p = call.problem;
  const int64_t index = int64_t{blockIdx.x} * Row::kRows + threadIdx.x / kThreads;
  if (index >= p.frames * p.batch) return;
  const RowIndex at = row_index(p, index);
  const int classes = static_cast<int>(p.classes);
  const GradientRow<Out> row(call, at.t, at.n);
  if (row.template fills<kThreads>(classes)) return;
  const Real max = row.statistics.max, scale = scale_of(row.statistics);
  const Real weight = static_cast<const Real*>(call.grad_loss)[at.n];
  write_rows<kThreads, 1, Out>({row}, {occupancies_of<Real>(p, at.t, at.n)}, classes,
                               spread_out + threadIdx.x / kThreads * kTile,
                               [=](Real(&x)[1], const Real(&share)[1], int) {
                                 // Times the upstream gradient last: where softmax and occupancy cancel, their
                                 // roundings are all that is left.
                                 x[0] = (exp_of(x[0] - max) * scale - share[0]) * weight;
                               });
}

// The gradient of a row's loss and entropy, with star.
template <typename Real>
struct RowTerms {
  Real max, scale, weight, rest_max, log_share, surprise, entropy_weight, consistency_weight;
  int blank;

  __device__ RowTerms(const Backward& call, int64_t t, int64_t n, RowStatistics<Real> row)
      : max(row.max),
        scale(scale_of(row)),
        weight(static_cast<const Real*>(call.grad_loss)[n]),
        rest_max(Real(0)),
        log_share(-infinity<Real>()),
        surprise(Real(0)),
        entropy_weight(Real(0)),
        consistency_weight(Real(0)),
        blank(static_cast<int>(call.problem.blank)) {
    const Problem& p = call.problem;
    const int64_t at = t * p.batch + n;
    if (p.star_rows) {
      rest_max = static_cast<const Real*>(p.star_rows)[at];
      log_share = static_cast<const Real*>(p.star_rows)[p.frames * p.batch + at];
    }
    if (call.grad_entropy) {
      entropy_weight = static_cast<const Real*>(call.grad_entropy)[n];
      surprise = static_cast<const Real*>(p.row_entropy)[at] - row.log_sum;
    }
    if (call.grad_consistency) consistency_weight = static_cast<const Real*>(call.grad_consistency)[n];
  }
  __device__ Real softmax(Real x) const { return exp_of(x - max) * scale; }
  __device__ Real operator()(Real x, Real share, int c, Real softmax) const {
    Real difference = softmax - share;
    if (log_share > -infinity<Real>() && c != blank) difference -= exp_of((x - rest_max) + log_share);
    return difference * weight - entropy_weight * (softmax * (held_below(x - max) + surprise));
  }
};

// With star, entropy or consistency.  For consistency the rows of both views of an utterance together.
template <typename Out, int kThreads>
__global__ void __launch_bounds__(kRowBlock, 2) ctc_terms_gradient_kernel(Backward call) {
  using Real = RealOf<Out>;
  using Row = RowThreads<kThreads>;
  constexpr int kTile = kSpread<Real, kThreads>;
  __shared__ alignas(16) Real spread_out[Row::kRows * kTile];
  Real* shares = spread_out + threadIdx.x / kThreads * kTile;
  const Problem& p = call.problem;
  const bool pairs = call.grad_consistency != nullptr;
  const int64_t at_once = pairs ? p.batch / 2 : p.batch;
  const int64_t index = int64_t{blockIdx.x} * Row::kRows + threadIdx.x / kThreads;
  if (index >= p.frames * at_once) return;
  const RowIndex at = row_index(p, index, at_once);
  const int classes = static_cast<int>(p.classes);
  const GradientRow<Out> first(call, at.t, at.n), second(call, at.t, pairs ? at.n + at_once : at.n);
  if (pairs && !first.is_idle() && !second.is_idle()) {
    // Each view's gradient holds the distribution of the other.
    if (first.is_nan() || second.is_nan()) {
      first.template fill<kThreads>(classes, not_a_number(Real(0)));
      return second.template fill<kThreads>(classes, not_a_number(Real(0)));
    }
    const RowTerms<Real> one(call, at.t, at.n, first.statistics), two(call, at.t, at.n + at_once, second.statistics);
    return write_rows<kThreads, 2, Out>(
        {first, second}, {occupancies_of<Real>(p, at.t, at.n), occupancies_of<Real>(p, at.t, at.n + at_once)}, classes,
        shares, [&](Real(&x)[2], const Real(&share)[2], int c) {
          const Real in_one = one.softmax(x[0]), in_two = two.softmax(x[1]);
          x[0] = one(x[0], share[0], c, in_one) + one.consistency_weight * (in_one - in_two);
          x[1] = two(x[1], share[1], c, in_two) + two.consistency_weight * (in_two - in_one);
        });
  }
#pragma unroll 1
  for (int64_t n = at.n; n < p.batch; n += at_once) {
    const GradientRow<Out> row(call, at.t, n);
    if (!row.template fills<kThreads>(classes)) {
      const RowTerms<Real> terms(call, at.t, n, row.statistics);
      write_rows<kThreads, 1, Out>(
          {row}, {occupancies_of<Real>(p, at.t, n)}, classes, shares,
          [&](Real(&x)[1], const Real(&share)[1], int c) { x[0] = terms(x[0], share[0], c, terms.softmax(x[0])); });
    }
    if (!pairs) return;
  }
}

}  // namespace lisa::ctc
