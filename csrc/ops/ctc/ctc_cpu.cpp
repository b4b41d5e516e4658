// CTC on the CPU: forward with posteriors, and the gradient.  Compiled once per CPU capability; core/simd.h says what
// that forbids.  The mathematics and the meaning of what is saved stand in lisa_kernels/ops/ctc/README.md.
#include <omp.h>

#include "ctc.h"
#include "ctc_rows.h"
#include "ctc_states.h"
#include "ctc_utterance.h"

namespace lisa::LISA_CAPABILITY {
namespace {

// How the work is shared out, and whose scratch lies where.  Frames come first, then walks; a slot is an utterance's
// own or a thread's, for one utterance after the other.
template <typename Real>
struct Schedule {
  CtcMemory slot{0, 0};
  // Fewer utterances than threads: the two directions of an utterance run on two threads.
  bool by_direction;
  // Rows of logits are read in the order of memory, for all utterances before the first is walked: 1.7 instead of 2.2
  // ms for 8000 rows of 1000 on one core.  Else a thread reads those of its utterance.
  bool frames_first;
  int64_t frame_slots, walk_slots;

  Schedule(const CtcForward& p, int threads) {
    const CtcProblem& problem = p.problem;
    for (int64_t n = 0; n < problem.batch; ++n) {
      const CtcMemory needed = Utterance<Real>::memory_needed(p, n);
      slot.frames = larger(slot.frames, needed.frames);
      slot.walk = larger(slot.walk, needed.walk);
    }
    by_direction = problem.batch < threads;
    // Only where the emissions of all are small beside the logits.
    const int64_t dense = problem.frames * problem.batch * problem.classes * static_cast<int64_t>(sizeof(Real));
    frames_first = by_direction || slot.frames * problem.batch <= dense / 4;
    frame_slots = frames_first ? problem.batch : threads;
    walk_slots = by_direction ? problem.batch : threads;
  }
  int64_t bytes() const { return frame_slots * slot.frames + walk_slots * slot.walk; }
  char* frames(const CtcForward& p, int64_t i) const { return p.scratch + i * slot.frames; }
  char* walk(const CtcForward& p, int64_t i) const { return frames(p, frame_slots) + i * slot.walk; }
  Utterance<Real>& utterance(const CtcForward& p, int64_t n) const {
    return *reinterpret_cast<Utterance<Real>*>(frames(p, n));
  }
};

template <typename Real>
void walk(Utterance<Real>& u, char* memory) {
  u.begin_walk(memory);
  u.alpha.walk_to_meeting(u);
  u.beta.walk_to_meeting(u);
  u.meet();
  u.alpha.walk_from_meeting(u, u.beta);
  u.beta.walk_from_meeting(u, u.alpha);
  u.finish();
}

template <typename Real, typename In>
void forward(const CtcForward& p, int threads) {
  const CtcProblem& problem = p.problem;
  const int64_t batch = problem.batch;
  const Schedule<Real> plan(p, threads);
#pragma omp parallel num_threads(threads)
  {
    const int thread = omp_get_thread_num();
    if (plan.frames_first) {
#pragma omp for schedule(static)
      for (int64_t n = 0; n < batch; ++n) Utterance<Real>::begin(p, n, plan.frames(p, n));
      const bool frames_outside = problem.stride_t >= problem.stride_n;
#pragma omp for schedule(static)
      for (int64_t r = 0; r < problem.frames * batch; ++r) {
        const int64_t t = frames_outside ? r / batch : r % problem.frames;
        Utterance<Real>& u = plan.utterance(p, frames_outside ? r % batch : r / problem.frames);
        if (t < u.T) u.template read_frame<In>(t, problem.classes);
      }
    }
    if (plan.by_direction) {
#pragma omp for schedule(static)
      for (int64_t n = 0; n < batch; ++n) plan.utterance(p, n).begin_walk(plan.walk(p, n));
#pragma omp for schedule(dynamic)
      for (int64_t i = 0; i < 2 * batch; ++i) {
        Utterance<Real>& u = plan.utterance(p, i / 2);
        i % 2 ? u.beta.walk_to_meeting(u) : u.alpha.walk_to_meeting(u);
      }
#pragma omp for schedule(static)
      for (int64_t n = 0; n < batch; ++n) plan.utterance(p, n).meet();
#pragma omp for schedule(dynamic)
      for (int64_t i = 0; i < 2 * batch; ++i) {
        Utterance<Real>& u = plan.utterance(p, i / 2);
        i % 2 ? u.beta.walk_from_meeting(u, u.alpha) : u.alpha.walk_from_meeting(u, u.beta);
      }
#pragma omp for schedule(static)
      for (int64_t n = 0; n < batch; ++n) plan.utterance(p, n).finish();
    } else if (plan.frames_first) {
#pragma omp for schedule(dynamic)
      for (int64_t n = 0; n < batch; ++n) walk(plan.utterance(p, n), plan.walk(p, thread));
    } else {
#pragma omp for schedule(dynamic)
      for (int64_t n = 0; n < batch; ++n) {
        Utterance<Real>& u = Utterance<Real>::begin(p, n, plan.frames(p, thread));
        for (int64_t t = 0; t < u.T; ++t) u.template read_frame<In>(t, problem.stride_t);
        walk(u, plan.walk(p, thread));
      }
    }
  }
}

// row -= occupancy, by position.  A class that stands at several positions is subtracted several times, in the order of
// the target.  Lengths and labels may have been changed since forward looked at them: they stay within bounds.
template <typename Real, typename Label>
void subtract_positions(const CtcProblem& p, const Label* label, int64_t labels, const Real* occupancy, Real* row) {
  row[p.blank] -= occupancy[0];
  for (int64_t s = 0; s < labels; ++s)
    if (static_cast<uint64_t>(label[s]) < static_cast<uint64_t>(p.classes)) row[label[s]] -= occupancy[s + 1];
}

template <typename Real>
void subtract_occupancy(const CtcProblem& p, int64_t n, int64_t t, Real* row) {
  const int64_t offset = p.target_offsets[n], room = p.target_ends[n] - offset;
  const int64_t labels = p.target_lengths[n] < 0 ? 0 : smaller(p.target_lengths[n], room);
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

template <typename Real, typename In>
void backward(const CtcBackward& b, int threads) {
  const CtcProblem& p = b.problem;
  // Along the memory, whichever of T and N comes first in it.
  const bool frames_outside = p.stride_t >= p.stride_n;
  const bool bypass_cache = p.frames * p.batch * p.classes * static_cast<int64_t>(sizeof(In)) >= kStreamedBytes;
#pragma omp parallel num_threads(threads)
  {
    // A row is put together in the L1 cache and leaves it once.
    Real* row_in_cache = reinterpret_cast<Real*>(b.scratch + omp_get_thread_num() * b.row_bytes);
#pragma omp for schedule(static)
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
      row_softmax<Real>(x, row_in_cache, p.classes, row);
      subtract_occupancy(p, n, t, row_in_cache);
      // Times the upstream gradient last: where softmax and occupancy cancel, their roundings are all that is left.
      write_row(row_in_cache, weight, grad, p.classes, bypass_cache);
    }
    finish_streaming();
  }
}

}  // namespace

int64_t ctc_scratch_bytes(const CtcForward& p, int threads) {
  return p.problem.dtype == Dtype::kFloat64 ? Schedule<double>(p, threads).bytes()
                                            : Schedule<float>(p, threads).bytes();
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
