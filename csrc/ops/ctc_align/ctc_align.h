// Parameters of the CPU kernel of ctc_align.  No torch header.
#pragma once
#include <cstdint>

#include "../../core/dtype.h"

namespace lisa {

// Pointers are to contiguous arrays unless strides are given.
struct CtcAlign {
  const void* logits;  // [T, N, C], any strides with dense classes
  Dtype dtype;
  int64_t stride_t, stride_n;  // of logits, in elements
  int64_t frames, batch, classes;

  const void* targets;  // [N, S], or [sum of lengths] concatenated
  bool targets_are_int32;
  const int64_t* target_starts;  // [N], first label of each utterance
  const int64_t* target_rooms;   // [N], labels that have a place there
  const int64_t* target_lengths;
  const int64_t* logit_lengths;

  const void* log_priors;  // [C], float, or double for double logits; null: none
  int64_t blank;
  bool has_star;
  int64_t star;
  double star_penalty;
  int64_t band;  // 0: none

  int64_t* paths;   // [N, T]
  int32_t* states;  // [N, T]
  void* scores;     // [N, T], as log_priors
  void* total;      // [N]
  char* scratch;    // 64-byte aligned
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
