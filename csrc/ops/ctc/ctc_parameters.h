// What the kernels of CTC take, on the CPU and on CUDA.  No torch, no CUDA header.
//
// Pointers are to memory of the device that computes; arrays are contiguous unless strides are given.  "Real" arrays
// are float, or double for double logits.
#pragma once
#include <cstdint>

#include "../../core/dtype.h"

namespace lisa {

struct CtcLogits {
  const void* logits;  // [T, N, C], any strides with dense classes
  Dtype dtype;
  int64_t stride_t, stride_n;  // of logits, in elements
  int64_t frames, batch, classes;
  int64_t blank;
};

struct CtcInputs : CtcLogits {
  const void* targets;  // [N, S], or [sum of lengths] concatenated
  bool targets_are_int32;
  bool concatenated;
  int64_t target_count;           // labels in `targets`
  int64_t most_labels;            // that an utterance may have, by the shapes alone
  const int64_t* target_lengths;  // [N]
  bool has_star;                  // whether the label `star`, which is no class, stands for any class but blank
  int64_t star;
};

// What forward and backward of ctc_loss share: inputs, and what is saved between them.
struct CtcLossInputs : CtcInputs {
  // Occupancies are stored for each class of each frame instead of for each position of the target.
  bool by_class;
  // Real:
  void* row_max;    // [T, N]
  void* log_sum;    // [T, N]; +inf: the row's gradient is 0; NaN: it is NaN
  void* occupancy;  // T rows of each utterance
  // Null where not asked for:
  void* row_entropy;  // [T, N]
  void* star_rows;    // [2, T, N]: largest logit but blank's; log(posterior of the star) - log-sum below that logit
};

// Entries of `occupancy`.
static inline int64_t occupancy_size(const CtcLossInputs& p) {
  return p.frames * (p.by_class ? p.batch * p.classes : p.target_count + p.batch);
}

// What forward takes beside them, and where its results go.  Real but for the lengths.
struct CtcForwardCall {
  const int64_t* logit_lengths;  // [N]
  const void* log_priors;        // [C], null without
  double star_penalty;
  bool zero_infinity;
  bool save;                    // whether occupancy is wanted
  void* loss;                   // [N]
  void *entropy, *consistency;  // [N], null where not asked for
};

struct CtcBackwardCall {
  const void* grad_loss;                        // [N]
  const void *grad_entropy, *grad_consistency;  // [N], null where not asked for
  void* grad_logits;                            // [T, N, C], any strides with dense classes; may be the logits
  int64_t grad_stride_t, grad_stride_n;
};

}  // namespace lisa
