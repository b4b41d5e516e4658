// Parameters of the CTC kernels.  No torch header.
#pragma once
#include <cstdint>

#include "../../core/dtype.h"

namespace lisa {

// Bytes of scratch.
struct CtcMemory {
  int64_t frames;  // emissions of an utterance
  int64_t walk;    // states of an utterance
};

// What forward and backward share.  Pointers are to contiguous arrays unless strides are given.
struct CtcProblem {
  const void* logits;  // [T, N, C], any strides with dense classes
  Dtype dtype;
  int64_t stride_t, stride_n;  // of logits, in elements
  int64_t frames, batch, classes;

  const void* targets;  // [N, S], or [sum of lengths] concatenated
  bool targets_are_int32;
  const int64_t* target_offsets;  // [N], first label of each utterance
  const int64_t* target_ends;     // [N], one past the last label it may have
  const int64_t* target_lengths;  // [N]
  int64_t target_count;           // labels in `targets`
  int64_t blank;
  bool has_star;  // whether the label `star`, which is no class, stands for any class but blank
  int64_t star;
  // Occupancies are stored for each class of each frame instead of for each position of the target.
  bool by_class;

  // float, or double for double logits:
  void* row_max;    // [T, N]
  void* log_sum;    // [T, N]; +inf: the row's gradient is 0; NaN: it is NaN
  void* occupancy;  // T rows of each utterance, see occupancy_offset
  // Null where not asked for:
  void* row_entropy;  // [T, N]
  void* star_rows;    // [2, T, N]: largest logit but blank's; log(posterior of the star) - log-sum below that logit
};

struct CtcForward {
  CtcProblem problem;
  const int64_t* logit_lengths;  // [N]
  void* loss;                    // [N]
  void *entropy, *consistency;   // [N], null where not asked for
  void* row_divergence;          // [T, N], scratch; null without consistency
  const void* log_priors;        // [C], null without
  double star_penalty;
  bool zero_infinity;
  bool save;  // whether occupancy is wanted
  // 64-byte aligned, as laid out by Schedule in ctc_cpu.cpp.
  char* scratch;
};

struct CtcBackward {
  CtcProblem problem;
  const void* grad_loss;                        // [N]
  const void *grad_entropy, *grad_consistency;  // [N], null where not asked for
  void* grad_logits;                            // [T, N, C], any strides with dense classes; may be the logits
  int64_t grad_stride_t, grad_stride_n;
  char* scratch;      // two rows for each thread, `row_bytes` apart, 64-byte aligned
  int64_t row_bytes;  // at least C values of the computation's type
};

// Entries of a frame's occupancy: one for each class, or blank and then each position of the target.
static inline int64_t occupancy_width(const CtcProblem& p, int64_t labels) {
  return p.by_class ? p.classes : labels + 1;
}

// First entry of an utterance's T rows.
static inline int64_t occupancy_offset(const CtcProblem& p, int64_t n) {
  return p.frames * (p.by_class ? n * p.classes : p.target_offsets[n] + n);
}

// The other view of an utterance, where the second half of a batch holds other views of the first.
static inline int64_t partner_of(const CtcProblem& p, int64_t n) { return (n + p.batch / 2) % p.batch; }

// One past the last entry of an utterance's rows.
static inline int64_t occupancy_end(const CtcProblem& p, int64_t n) {
  if (n + 1 < p.batch) return occupancy_offset(p, n + 1);
  return p.frames * (p.by_class ? p.batch * p.classes : p.target_count + p.batch);
}

// Each capability's build of ctc_cpu.cpp has these.
#define LISA_DECLARE_CTC(capability)                           \
  namespace capability {                                       \
  int64_t ctc_scratch_bytes(const CtcForward& p, int threads); \
  void ctc_forward(const CtcForward& p, int threads);          \
  void ctc_backward(const CtcBackward& p, int threads);        \
  }
LISA_DECLARE_CTC(baseline)
#if defined(LISA_HAVE_X86)
LISA_DECLARE_CTC(avx2)
LISA_DECLARE_CTC(avx512)
#endif
#undef LISA_DECLARE_CTC

}  // namespace lisa
