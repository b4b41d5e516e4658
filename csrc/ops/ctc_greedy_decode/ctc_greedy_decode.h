// Parameters of greedy decoding, for the CPU and for CUDA.  No torch, no CUDA header.
#pragma once
#include "../ctc/ctc_parameters.h"

namespace lisa {

struct CtcGreedyDecode : CtcLogits {
  const int64_t* logit_lengths;  // [N]

  // Scratch, [N, T]: best class of each frame and its log-probability; float, or double for double logits.
  int32_t* best;
  void* log_prob;

  int64_t* ids;      // [N, T]
  int64_t* lengths;  // [N]
  int64_t* starts;   // [N, T]
  int64_t* ends;     // [N, T]
  void* scores;      // [N], as log_prob
};

// Each capability's build of ctc_greedy_decode_cpu.cpp has this.
#define LISA_DECLARE_CTC_GREEDY_DECODE(capability)               \
  namespace capability {                                         \
  void ctc_greedy_decode(const CtcGreedyDecode& p, int threads); \
  }
LISA_DECLARE_CTC_GREEDY_DECODE(baseline)
#if defined(LISA_HAVE_X86)
LISA_DECLARE_CTC_GREEDY_DECODE(avx2)
LISA_DECLARE_CTC_GREEDY_DECODE(avx512)
#endif
#undef LISA_DECLARE_CTC_GREEDY_DECODE

// CUDA: `stream` is a cudaStream_t; returns the cudaError_t of the first launch that failed.
int ctc_greedy_decode_on_cuda(const CtcGreedyDecode& p, void* stream);

}  // namespace lisa
