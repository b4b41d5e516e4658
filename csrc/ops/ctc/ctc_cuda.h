// Parameters and launchers of the CUDA kernels: what crosses the boundary to the binding.  No torch, no CUDA header.
#pragma once
#include "ctc_parameters.h"

namespace lisa::ctc {

struct Problem : CtcLossInputs {
  // Scratch, see lay_out.
  // Concatenated: [N + 1], first label of each utterance, held within `targets`; behind them what the lengths sum to.
  int64_t* target_starts;
  // Blank (slot 0) and labels (slot 1 on) of each utterance in the order of their classes; may be null where not used.
  void* sorted_slots;
};

struct Forward : CtcForwardCall {
  Problem problem;

  // Scratch, see lay_out.
  void* emissions;
  void* states;
  void* posteriors;      // not yet divided by their sum; the occupancies themselves unless `by_class`
  void* blank_parts;     // [N, T, parts]
  void* strip_borders;   // null where all targets fit into one strip
  int32_t* is_feasible;  // [N]
  void* row_divergence;  // [T, N]; null without consistency
  int64_t rows;          // of states that each direction of an utterance has room for
  int64_t segment;       // frames between two checkpoints; 0: the states of all frames are kept
  int64_t parts;         // of the sum over blanks: one for each warp
  int64_t block_above;   // targets of more labels are walked by blocks, others by warps
};

struct Backward : CtcBackwardCall {
  Problem problem;
};

// Sets the pointers to scratch and returns its bytes.  `scratch` is 64-byte aligned, or null for the bytes alone.
// States of all frames beyond `kept_bytes` are recomputed from checkpoints: memory then grows with the square root of
// the frames.
int64_t lay_out(Forward& call, char* scratch, int64_t kept_bytes);
int64_t lay_out(Backward& call, char* scratch);

// `stream` is a cudaStream_t; they return the cudaError_t of the first launch that failed.
int forward(const Forward& call, void* stream);
int backward(const Backward& call, void* stream);

}  // namespace lisa::ctc
