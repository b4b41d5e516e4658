// at::Tensor -> the parameters that the ops on CTC's logits and targets share.
#pragma once
#include <algorithm>
#include <optional>
#include <vector>

#include "../../core/tensor.h"
#include "ctc_parameters.h"

namespace lisa {

constexpr const char* kOnDevice = " on the device of logits";

// Who asks, for the messages.
struct CtcCaller {
  const char* op;     // the public function
  const char* place;  // kOnDevice, or nothing where there is no other device
};

inline void set_logits(CtcLogits& p, const at::Tensor& logits, int64_t blank, const char* op) {
  TORCH_CHECK_VALUE(logits.dim() == 3 && (logits.stride(2) == 1 || logits.size(2) == 1), op,
                    ": logits must be [T, N, C] with dense classes here; lisa_kernels.", op, " brings it so.");
  p.dtype = dtype_of(logits, op, "logits");
  p.logits = logits.const_data_ptr();
  p.stride_t = logits.stride(0), p.stride_n = logits.stride(1);
  p.frames = logits.size(0), p.batch = logits.size(1), p.classes = logits.size(2);
  TORCH_CHECK_VALUE(blank >= 0 && blank < p.classes, op, ": blank is ", blank, "; it takes 0 to ", p.classes - 1, ".");
  p.blank = blank;
}

inline const int64_t* lengths_of(const at::Tensor& lengths, const char* name, const at::Tensor& logits, CtcCaller by) {
  TORCH_CHECK_VALUE(lengths.scalar_type() == at::kLong && lengths.is_contiguous() &&
                        lengths.numel() == logits.size(1) && lengths.device() == logits.device(),
                    by.op, ": ", name, " must be contiguous int64 [N]", by.place, " here; lisa_kernels.", by.op,
                    " brings it so.");
  return lengths.const_data_ptr<int64_t>();
}

inline void set_inputs(CtcInputs& p, const at::Tensor& logits, const at::Tensor& targets,
                       const at::Tensor& target_lengths, int64_t blank, std::optional<int64_t> star, CtcCaller by) {
  set_logits(p, logits, blank, by.op);
  TORCH_CHECK_VALUE(
      targets.is_contiguous() && (targets.scalar_type() == at::kLong || targets.scalar_type() == at::kInt) &&
          targets.device() == logits.device(),
      by.op, ": targets must be contiguous int32 or int64", by.place, " here; lisa_kernels.", by.op, " brings it so.");
  p.concatenated = targets.dim() != 2;
  TORCH_CHECK_VALUE(p.concatenated || targets.size(0) == p.batch, by.op, ": targets has ", targets.size(0),
                    " rows; it takes N = ", p.batch, ".");
  p.targets = targets.const_data_ptr();
  p.targets_are_int32 = targets.scalar_type() == at::kInt;
  p.target_count = targets.numel();
  p.most_labels = p.concatenated ? targets.numel() : targets.size(1);
  p.target_lengths = lengths_of(target_lengths, "target_lengths", logits, by);
  p.has_star = star.has_value(), p.star = star.value_or(-1);
  TORCH_CHECK_VALUE(!star || *star < 0 || *star >= p.classes, by.op, ": star is ", p.star,
                    "; it takes a number that is no class.");
}

// Null without priors.
inline const void* log_priors_of(const std::optional<at::Tensor>& log_priors, const at::Tensor& logits, CtcCaller by) {
  if (!log_priors) return nullptr;
  TORCH_CHECK_VALUE(log_priors->scalar_type() == real_of(logits) && log_priors->is_contiguous() &&
                        log_priors->numel() == logits.size(2) && log_priors->device() == logits.device(),
                    by.op, ": log_priors must be contiguous [C] of the computation's dtype", by.place,
                    " here; lisa_kernels.", by.op, " brings it so.");
  return log_priors->const_data_ptr();
}

// Where each target lies, on the CPU.  Lengths out of range get no room beyond the tensor: the kernels answer them with
// NaN.
struct CtcPlaces {
  std::vector<int64_t> offsets, ends;

  explicit CtcPlaces(const CtcInputs& p) : offsets(p.batch), ends(p.batch) {
    int64_t next = 0;
    for (int64_t n = 0; n < p.batch; ++n) {
      const int64_t room =
          p.concatenated ? std::clamp<int64_t>(p.target_lengths[n], 0, p.target_count - next) : p.most_labels;
      offsets[n] = next, ends[n] = next + room;
      next += room;
    }
  }
};

}  // namespace lisa
