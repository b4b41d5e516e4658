// Parameters and launcher of the CUDA kernels: what crosses the boundary to the binding.  No torch, no CUDA header.
#pragma once
#include "../ctc/ctc_cuda.h"
#include "ctc_align.h"

namespace lisa::ctc {

struct Align : CtcAlignCall {
  // Of it inputs and log_sum are used; row_max is not written.
  Problem problem;

  // Scratch, see lay_out.
  void* windows;             // with a band: the first and the last position of each frame, [N, T]
  void* emissions;           // search scores of blank and labels
  uint32_t* moves;           // back pointers, see Moves
  uint32_t* skips;           // blocks: which labels may follow the one before without a blank, a bit each
  double* states_in_global;  // blocks: null where the states fit into shared memory
  // Emissions and moves have rows as wide as the band instead of as the target.
  bool banded_rows;
  int64_t ring;         // blocks: positions that the states have room for, a power of 2
  int64_t block_above;  // targets of more labels are searched by blocks, others by warps
};

// Sets the pointers to scratch and returns its bytes.  `scratch` is 64-byte aligned, or null for the bytes alone.
int64_t lay_out(Align& call, char* scratch);

// `stream` is a cudaStream_t; it returns the cudaError_t of the first launch that failed.
int align(const Align& call, void* stream);

}  // namespace lisa::ctc
