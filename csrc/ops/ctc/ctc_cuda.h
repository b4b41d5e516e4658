// Parameters and launchers of the CUDA kernels: what crosses the boundary to the binding.  No torch, no CUDA header.
#pragma once
#include <cstdint>

#include "../../core/dtype.h"

namespace lisa::ctc {

// What forward and backward share.  All pointers are to device memory; arrays are contiguous unless strides are given.
struct Problem {
  const void* logits;  // [T, N, C], any strides with dense classes
  Dtype dtype;
  int64_t stride_t, stride_n;  // of logits, in elements
  int64_t frames, batch, classes;

  const void* targets;  // [N, S], or [sum of lengths] concatenated
  bool targets_are_int32;
  bool concatenated;
  int64_t target_count;           // labels in `targets`
  int64_t most_labels;            // that an utterance may have, by the shapes alone
  const int64_t* target_lengths;  // [N]
  // Concatenated: [N + 1], first label of each utterance, held within `targets`; behind them what the lengths sum to.
  int64_t* target_starts;
  int64_t blank;
  bool has_star;  // whether the label `star`, which is no class, stands for any class but blank
  int64_t star;
  bool by_class;  // occupancies for each class of each frame instead of for each position of the target

  // float, or double for double logits:
  void* row_max;    // [T, N]
  void* log_sum;    // [T, N]; +inf: the row's gradient is 0; NaN: it is NaN
  void* occupancy;  // T rows of each utterance
  // Null where not asked for:
  void* row_entropy;  // [T, N]
  void* star_rows;    // [2, T, N]: largest logit but blank's; log(posterior of the star) - log-sum below that logit
  // Blank (slot 0) and labels (slot 1 on) of each utterance in the order of their classes; may be null where not used.
  void* sorted_slots;
};

struct Forward {
  Problem problem;
  const int64_t* logit_lengths;  // [N]
  void* loss;                    // [N]
  void *entropy, *consistency;   // [N], null where not asked for
  const void* log_priors;        // [C], null without
  double star_penalty;
  bool zero_infinity;
  bool save;  // whether occupancy is wanted

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

struct Backward {
  Problem problem;
  const void* grad_loss;                        // [N]
  const void *grad_entropy, *grad_consistency;  // [N], null where not asked for
  void* grad_logits;                            // [T, N, C], any strides with dense classes; may be the logits
  int64_t grad_stride_t, grad_stride_n;
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
