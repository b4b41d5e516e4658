// CTC on the CPU: forward with posteriors, and the gradient.  Compiled once per CPU capability; core/simd.h says what
// that forbids.  The mathematics and the meaning of what is saved stand in lisa_kernels/ops/ctc/README.md.
#include <omp.h>

#include "ctc.h"
#include "ctc_rows.h"
#include "ctc_states.h"
#include "ctc_utterance.h"

namespace lisa::LISA_CAPABILITY {
namespace {

template <typename Real>
int64_t largest_utterance(const CtcForward& p) {
  int64_t bytes = 0;
  for (int64_t n = 0; n < p.problem.batch; ++n) {
    const int64_t needed = Utterance<Real>::bytes(p, n);
    bytes = needed > bytes ? needed : bytes;
  }
  return bytes;
}

// Enough utterances: a thread takes one after the other, with memory of its own that stays in its cache.
template <typename Real, typename In>
void forward_by_utterance(const CtcForward& p, int threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t n = 0; n < p.problem.batch; ++n) {
    Utterance<Real>& u = Utterance<Real>::lay_out(p, n, p.scratch + omp_get_thread_num() * p.worker_bytes);
    for (int64_t t = 0; t < u.T; ++t) u.template read_frame<In>(t);
    u.check_frames();
    u.alpha.walk_to_meeting(u);
    u.beta.walk_to_meeting(u);
    u.meet();
    u.alpha.walk_from_meeting(u, u.beta);
    u.beta.walk_from_meeting(u, u.alpha);
    u.finish();
  }
}

// Fewer utterances than threads: frames, then the two directions of each utterance, are shared out.
template <typename Real, typename In>
void forward_by_direction(const CtcForward& p, int threads) {
  const int64_t batch = p.problem.batch;
  const auto utterance = [&](int64_t n) -> Utterance<Real>& {
    return *reinterpret_cast<Utterance<Real>*>(p.scratch + n * p.worker_bytes);
  };
  for (int64_t n = 0; n < batch; ++n) Utterance<Real>::lay_out(p, n, p.scratch + n * p.worker_bytes);
#pragma omp parallel num_threads(threads)
  {
    for (int64_t n = 0; n < batch; ++n) {
#pragma omp for schedule(static)
      for (int64_t t = 0; t < utterance(n).T; ++t) utterance(n).template read_frame<In>(t);
    }
#pragma omp for schedule(static)
    for (int64_t n = 0; n < batch; ++n) utterance(n).check_frames();
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < 2 * batch; ++i) {
      Utterance<Real>& u = utterance(i / 2);
      i % 2 ? u.beta.walk_to_meeting(u) : u.alpha.walk_to_meeting(u);
    }
#pragma omp for schedule(static)
    for (int64_t n = 0; n < batch; ++n) utterance(n).meet();
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < 2 * batch; ++i) {
      Utterance<Real>& u = utterance(i / 2);
      i % 2 ? u.beta.walk_from_meeting(u, u.alpha) : u.alpha.walk_from_meeting(u, u.beta);
    }
#pragma omp for schedule(static)
    for (int64_t n = 0; n < batch; ++n) utterance(n).finish();
  }
}

template <typename Real, typename In>
void forward(const CtcForward& p, int threads) {
  if (p.problem.batch >= threads)
    forward_by_utterance<Real, In>(p, threads);
  else
    forward_by_direction<Real, In>(p, threads);
}

// grad -= weight * occupancy.
template <typename Real>
void subtract_occupancy(const CtcProblem& p, int64_t n, int64_t t, Real weight, Real* grad) {
  const int64_t labels = p.target_lengths[n];
  const Real* occupancy =
      static_cast<const Real*>(p.occupancy) + occupancy_offset(p, n) + t * occupancy_width(p, labels);
  if (p.by_class) {
    for (int64_t c = 0; c < p.classes; ++c) grad[c] -= weight * occupancy[c];
    return;
  }
  grad[p.blank] -= weight * occupancy[0];
  // A class that stands at several positions is subtracted several times, in the order of the target.
  const int64_t offset = p.target_offsets[n];
  if (p.targets_are_int32) {
    const int32_t* label = static_cast<const int32_t*>(p.targets) + offset;
    for (int64_t s = 0; s < labels; ++s) grad[label[s]] -= weight * occupancy[s + 1];
  } else {
    const int64_t* label = static_cast<const int64_t*>(p.targets) + offset;
    for (int64_t s = 0; s < labels; ++s) grad[label[s]] -= weight * occupancy[s + 1];
  }
}

template <typename Real>
Real* row_in_real(Real* grad, Real* /*scratch*/) {
  return grad;
}
template <typename Real, typename In>
Real* row_in_real(In* /*grad*/, Real* scratch) {
  return scratch;
}
template <typename Real>
void round_row(const Real* /*row*/, Real* /*grad*/, int64_t /*classes*/) {}
template <typename Real, typename In>
void round_row(const Real* row, In* grad, int64_t classes) {
  constexpr int kLanes = Simd<Real>::kLanes;
  int64_t c = 0;
  for (; c + kLanes <= classes; c += kLanes) store(grad + c, load(row + c));
  for (; c < classes; ++c) from_real(row[c], grad[c]);
}

template <typename Real, typename In>
void backward(const CtcBackward& b, int threads) {
  const CtcProblem& p = b.problem;
  // Along the memory, whichever of T and N comes first in it.
  const bool frames_outside = p.stride_t >= p.stride_n;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t r = 0; r < p.frames * p.batch; ++r) {
    const int64_t t = frames_outside ? r / p.batch : r % p.frames;
    const int64_t n = frames_outside ? r % p.batch : r / p.frames;
    In* grad = static_cast<In*>(b.grad_logits) + t * b.grad_stride_t + n * b.grad_stride_n;
    const RowStatistics<Real> row{static_cast<const Real*>(p.row_max)[t * p.batch + n],
                                  static_cast<const Real*>(p.log_sum)[t * p.batch + n]};
    if (!(row.log_sum < Real(__builtin_inf()))) {
      In filler;
      from_real(row.log_sum != row.log_sum ? row.log_sum : Real(0), filler);
      for (int64_t c = 0; c < p.classes; ++c) grad[c] = filler;
      continue;
    }
    const Real weight = static_cast<const Real*>(b.grad_loss)[n];
    const In* x = static_cast<const In*>(p.logits) + t * p.stride_t + n * p.stride_n;
    Real* real = row_in_real<Real>(grad, static_cast<Real*>(b.scratch) + omp_get_thread_num() * p.classes);
    row_gradient<Real>(x, real, p.classes, row, weight);
    subtract_occupancy(p, n, t, weight, real);
    round_row<Real>(real, grad, p.classes);
  }
}

}  // namespace

int64_t ctc_worker_bytes(const CtcForward& p) {
  return p.problem.dtype == Dtype::kFloat64 ? largest_utterance<double>(p) : largest_utterance<float>(p);
}

void ctc_forward(const CtcForward& p, int threads) {
  switch (p.problem.dtype) {
    case Dtype::kFloat32: return forward<float, float>(p, threads);
    case Dtype::kFloat64: return forward<double, double>(p, threads);
    case Dtype::kBFloat16: return forward<float, BFloat16>(p, threads);
    case Dtype::kFloat16: return forward<float, Float16>(p, threads);
  }
}

void ctc_backward(const CtcBackward& p, int threads) {
  switch (p.problem.dtype) {
    case Dtype::kFloat32: return backward<float, float>(p, threads);
    case Dtype::kFloat64: return backward<double, double>(p, threads);
    case Dtype::kBFloat16: return backward<float, BFloat16>(p, threads);
    case Dtype::kFloat16: return backward<float, Float16>(p, threads);
  }
}

}  // namespace lisa::LISA_CAPABILITY
