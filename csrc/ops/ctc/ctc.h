// Parameters of the CPU kernels.  No torch header.
#pragma once
#include "ctc_parameters.h"

namespace lisa {

// Bytes of scratch.
struct CtcMemory {
  int64_t frames;  // emissions of an utterance
  int64_t walk;    // states of an utterance
};

struct CtcProblem : CtcLossInputs {
  const int64_t* target_offsets;  // [N], first label of each utterance
  const int64_t* target_ends;     // [N], one past the last label it may have
};

struct CtcForward : CtcForwardCall {
  CtcProblem problem;
  void* row_divergence;  // [T, N], scratch; null without consistency
  // 64-byte aligned, as laid out by Schedule in ctc_cpu.cpp.
  char* scratch;
};

struct CtcBackward : CtcBackwardCall {
  CtcProblem problem;
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
  return n + 1 < p.batch ? occupancy_offset(p, n + 1) : occupancy_size(p);
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
