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

template <typename Out>
__device__ inline void fill_row(Out* row, const Span& span, int lane, int threads, RealOf<Out> value) {
  RealOf<Out> filler[kVector<Out>];
#pragma unroll
  for (int i = 0; i < kVector<Out>; ++i) filler[i] = value;
  if (const int edge = span.edge<Out>(lane); edge >= 0) from_real(value, row[edge]);
  for (int v = lane; v < span.vectors; v += threads) store_vector(row + span.first + v * kVector<Out>, filler);
}

// What a row's gradients are made of.
template <typename Real>
struct RowGradient {
  Real max, scale, weight;

  __device__ RowGradient(RowStatistics<Real> row, Real upstream)
      // 1 / sum, exact to half an ulp near 1: there softmax and occupancy of a confident model cancel.
      : max(row.max), scale(Real(1) + expm1_of(-row.log_sum)), weight(upstream) {}
  // Times the upstream gradient last: where softmax and occupancy cancel, their roundings are all that is left.
  __device__ Real operator()(Real x, Real share) const { return (exp_of(x - max) * scale - share) * weight; }
};

// Each element is read before it is written, and by the same thread: `grad` may be the logits.
template <typename Out, int kThreads>
__global__ void __launch_bounds__(kRowBlock, 3) ctc_gradient_kernel(Backward call) {
  using Real = RealOf<Out>;
  using Row = RowThreads<kThreads>;
  constexpr int kTile = kSpread<Real, kThreads>;
  // Vectors that a thread reads before it writes the first.
  constexpr int kBatch = 2;
  __shared__ alignas(16) Real spread_out[Row::kRows * kTile];
  Real* shares = spread_out + threadIdx.x / kThreads * kTile;
  const Problem& p = call.problem;
  const int64_t index = int64_t{blockIdx.x} * Row::kRows + threadIdx.x / kThreads;
  if (index >= p.frames * p.batch) return;
  const RowIndex at = row_index(p, index);
  const int classes = static_cast<int>(p.classes), lane = Row::lane();
  const RowStatistics<Real> row{static_cast<const Real*>(p.row_max)[at.t * p.batch + at.n],
                                static_cast<const Real*>(p.log_sum)[at.t * p.batch + at.n]};
  Out* grad = static_cast<Out*>(call.grad_logits) + at.t * call.grad_stride_t + at.n * call.grad_stride_n;
  const int lead = elements_past_boundary(grad);
  if (!(row.log_sum < infinity<Real>())) {
    const Real value = row.log_sum != row.log_sum ? row.log_sum : Real(0);
    return fill_row(grad, Span::of<Out>(0, classes, -lead), lane, kThreads, value);
  }

  const Out* logits = static_cast<const Out*>(p.logits) + at.t * p.stride_t + at.n * p.stride_n;
  const RowGradient<Real> gradient(row, static_cast<const Real*>(call.grad_loss)[at.n]);
  const Occupancies<Real> occupancies = occupancies_of<Real>(p, at.t, at.n);
  const bool is_aligned = elements_past_boundary(logits) == lead;
  for (int tile = -lead; tile < classes; tile += kTile) {
    const int begin = larger(tile, 0), end = smaller(tile + kTile, classes);
    spread<kThreads>(occupancies, begin, end, shares + (begin - tile));
    const auto write_one = [&](int c) { from_real(gradient(to_real(logits[c]), shares[c - tile]), grad[c]); };
    // Rows of another stride modulo 128 bits: an element at a time.
    const Span span = Span::of<Out>(begin, is_aligned ? end : begin, tile);
    if (const int edge = span.edge<Out>(lane); edge >= 0) write_one(edge);
    for (int v = lane; v < span.vectors; v += kBatch * kThreads) {
      Real x[kBatch][kVector<Out>];
#pragma unroll
      for (int b = 0; b < kBatch; ++b)
        if (v + b * kThreads < span.vectors)
          load_vectors(logits + span.first + (v + b * kThreads) * kVector<Out>, x[b]);
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        if (v + b * kThreads >= span.vectors) continue;
        const int first = span.first + (v + b * kThreads) * kVector<Out>;
        Real share[kVector<Out>];
        load_vectors(shares + (first - tile), share);
#pragma unroll
        for (int i = 0; i < kVector<Out>; ++i) x[b][i] = gradient(x[b][i], share[i]);
        store_vector(grad + first, x[b]);
      }
    }
    if (!is_aligned)
      for (int c = begin + lane; c < end; c += kThreads) write_one(c);
    Row::sync();
  }
}

}  // namespace lisa::ctc
