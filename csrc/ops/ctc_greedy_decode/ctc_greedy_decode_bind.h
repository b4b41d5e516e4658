// at::Tensor -> parameters of greedy decoding, and the tensors it writes.  Light ATen headers only.
#pragma once
#include <limits>
#include <tuple>

#include "../ctc/ctc_inputs_bind.h"
#include "ctc_greedy_decode.h"

namespace lisa {

struct CtcGreedyDecodeCall {
  CtcGreedyDecode p{};
  at::Tensor best, log_prob, ids, lengths, starts, ends, scores;

  CtcGreedyDecodeCall(const at::Tensor& logits, const at::Tensor& logit_lengths, int64_t blank) {
    constexpr const char* kOp = "ctc_greedy_decode";
    set_logits(p, logits, blank, kOp);
    p.logit_lengths = lengths_of(logit_lengths, "logit_lengths", logits, {kOp, kOnDevice});
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
