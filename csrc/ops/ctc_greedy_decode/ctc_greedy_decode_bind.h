// at::Tensor -> parameters of greedy decoding, and the tensors it writes.  Light ATen headers only.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <limits>
#include <tuple>

#include "../../core/tensor.h"
#include "ctc_greedy_decode.h"

namespace lisa {

struct CtcGreedyDecodeCall {
  CtcGreedyDecode p{};
  at::Tensor best, log_prob, ids, lengths, starts, ends, scores;

  CtcGreedyDecodeCall(const at::Tensor& logits, const at::Tensor& logit_lengths, int64_t blank) {
    constexpr const char* kOp = "ctc_greedy_decode";
    TORCH_CHECK_VALUE(logits.dim() == 3 && (logits.stride(2) == 1 || logits.size(2) == 1), kOp,
                      ": logits must be [T, N, C] with dense classes here; lisa_kernels.", kOp, " brings it so.");
    p.dtype = dtype_of(logits, kOp, "logits");
    p.logits = logits.const_data_ptr();
    p.stride_t = logits.stride(0), p.stride_n = logits.stride(1);
    p.frames = logits.size(0), p.batch = logits.size(1), p.classes = logits.size(2);
    TORCH_CHECK_VALUE(logit_lengths.scalar_type() == at::kLong && logit_lengths.is_contiguous() &&
                          logit_lengths.numel() == p.batch && logit_lengths.device() == logits.device(),
                      kOp, ": logit_lengths must be contiguous int64 [N] on the device of logits here; lisa_kernels.",
                      kOp, " brings it so.");
    p.logit_lengths = logit_lengths.const_data_ptr<int64_t>();
    TORCH_CHECK_VALUE(blank >= 0 && blank < p.classes, kOp, ": blank is ", blank, "; it takes 0 to ", p.classes - 1,
                      ".");
    p.blank = blank;
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max() / 2;
    TORCH_CHECK_VALUE(p.frames * p.batch <= kMost && p.classes <= kMost, kOp, ": logits has shape ", logits.sizes(),
                      "; the native kernels take up to ", kMost, " frames in all, and classes.");

    const auto integers = logits.options().dtype(at::kLong), reals = logits.options().dtype(real_of(logits));
    best = at::empty({p.batch, p.frames}, logits.options().dtype(at::kInt));
    log_prob = at::empty({p.batch, p.frames}, reals);
    ids = at::empty({p.batch, p.frames}, integers);
    lengths = at::empty({p.batch}, integers);
    starts = at::empty({p.batch, p.frames}, integers);
    ends = at::empty({p.batch, p.frames}, integers);
    scores = at::empty({p.batch}, reals);
    p.best = best.data_ptr<int32_t>(), p.log_prob = log_prob.data_ptr();
    p.ids = ids.data_ptr<int64_t>(), p.lengths = lengths.data_ptr<int64_t>();
    p.starts = starts.data_ptr<int64_t>(), p.ends = ends.data_ptr<int64_t>(), p.scores = scores.data_ptr();
  }

  std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> outputs() const {
    return {ids, lengths, starts, ends, scores};
  }
};

}  // namespace lisa
