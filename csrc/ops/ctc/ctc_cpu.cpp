// CTC on the CPU: forward with posteriors, and the gradient.  Compiled once per CPU capability; core/simd.h says what
// that forbids.  The mathematics and the meaning of what is saved stand in lisa_kernels/ops/ctc/README.md.
#include <omp.h>

#include "ctc.h"
#include "ctc_gradient.h"
#include "ctc_outputs.h"
#include "ctc_terms.h"
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
    // Two views are read together.
    frame_slots = frames_first ? problem.batch : p.row_divergence ? 2 * threads : threads;
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

// Frame t of an utterance; with consistency also that of its other view and how far both are apart.
template <typename Real, typename In>
struct FrameReader {
  const CtcForward& p;

  void read(Utterance<Real>& u, int64_t t, int64_t ahead) const {
    if (t >= u.T) return;
    const bool star = p.problem.has_star, entropy = p.problem.row_entropy != nullptr;
    if (!star && !entropy) [[likely]]
      return u.template read_frame<false, false, In>(t, ahead);
    if (!star) return u.template read_frame<false, true, In>(t, ahead);
    entropy ? u.template read_frame<true, true, In>(t, ahead) : u.template read_frame<true, false, In>(t, ahead);
  }
  void read_pair(Utterance<Real>& u, Utterance<Real>& other, int64_t t, int64_t ahead) const {
    read(u, t, ahead);
    read(other, t, ahead);
    if (t < u.T && t < other.T) compare_views<Real, In>(p, t, u.n);
  }
};

template <typename Real, typename In>
void forward(const CtcForward& p, int threads) {
  const CtcProblem& problem = p.problem;
  const int64_t batch = problem.batch;
  const Schedule<Real> plan(p, threads);
  const FrameReader<Real, In> frames{p};
  const bool pairs = p.row_divergence != nullptr;
  const int64_t read_at_once = pairs ? batch / 2 : batch;
#pragma omp parallel num_threads(threads)
  {
    const int thread = omp_get_thread_num();
    if (plan.frames_first) {
#pragma omp for schedule(static)
      for (int64_t n = 0; n < batch; ++n) Utterance<Real>::begin(p, n, plan.frames(p, n));
      const bool frames_outside = problem.stride_t >= problem.stride_n;
#pragma omp for schedule(static)
      for (int64_t r = 0; r < problem.frames * read_at_once; ++r) {
        const int64_t t = frames_outside ? r / read_at_once : r % problem.frames;
        const int64_t n = frames_outside ? r % read_at_once : r / problem.frames;
        if (pairs)
          frames.read_pair(plan.utterance(p, n), plan.utterance(p, n + batch / 2), t, problem.classes);
        else
          frames.read(plan.utterance(p, n), t, problem.classes);
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
    } else if (pairs) {
#pragma omp for schedule(dynamic)
      for (int64_t n = 0; n < batch / 2; ++n) {
        Utterance<Real>& u = Utterance<Real>::begin(p, n, plan.frames(p, 2 * thread));
        Utterance<Real>& other = Utterance<Real>::begin(p, n + batch / 2, plan.frames(p, 2 * thread + 1));
        for (int64_t t = 0; t < problem.frames; ++t) frames.read_pair(u, other, t, problem.stride_t);
        walk(u, plan.walk(p, thread));
        walk(other, plan.walk(p, thread));
      }
    } else {
#pragma omp for schedule(dynamic)
      for (int64_t n = 0; n < batch; ++n) {
        Utterance<Real>& u = Utterance<Real>::begin(p, n, plan.frames(p, thread));
        for (int64_t t = 0; t < u.T; ++t) frames.read(u, t, problem.stride_t);
        walk(u, plan.walk(p, thread));
      }
    }
    if (p.entropy || p.consistency) {
#pragma omp for schedule(static)
      for (int64_t n = 0; n < batch; ++n) sum_terms<Real>(p, n);
    }
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
    case Dtype::kFloat32: return gradient<float, float>(p, threads);
    case Dtype::kFloat64: return gradient<double, double>(p, threads);
    case Dtype::kBFloat16: return gradient<float, BFloat16>(p, threads);
    case Dtype::kFloat16: return gradient<float, Float16>(p, threads);
  }
}

}  // namespace lisa::LISA_CAPABILITY
