// Parameters of ctc_align, and its CPU kernel.  No torch, no CUDA header.
#pragma once
#include "../ctc/ctc_parameters.h"

namespace lisa {

// Options and results of ctc_align.
struct CtcAlignCall {
  const int64_t* logit_lengths;  // [N]
  const void* log_priors;        // [C], real; null: none
  double star_penalty;
  int64_t band;     // 0: none
  int64_t* paths;   // [N, T]
  int32_t* states;  // [N, T]
  void* scores;     // [N, T], real
  void* total;      // [N], real
};

struct CtcAlign : CtcInputs, CtcAlignCall {
  const int64_t* target_offsets;  // [N], first label of each utterance
  const int64_t* target_ends;     // [N], one past the last label it may have
  char* scratch;                  // 64-byte aligned
};

// Each capability's build of ctc_align_cpu.cpp has these.
#define LISA_DECLARE_CTC_ALIGN(capability)                         \
  namespace capability {                                           \
  int64_t ctc_align_scratch_bytes(const CtcAlign& p, int threads); \
  void ctc_align(const CtcAlign& p, int threads);                  \
  }
LISA_DECLARE_CTC_ALIGN(baseline)
#if defined(LISA_HAVE_X86)
LISA_DECLARE_CTC_ALIGN(avx2)
LISA_DECLARE_CTC_ALIGN(avx512)
#endif
#undef LISA_DECLARE_CTC_ALIGN

}  // namespace lisa
