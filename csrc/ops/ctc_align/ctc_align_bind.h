// at::Tensor -> the parameters that the bindings of ctc_align share, for the CPU and for CUDA.
#pragma once
#include <tuple>

#include "../ctc/ctc_inputs_bind.h"
#include "ctc_align.h"

namespace lisa {

// Options, and the tensors that are returned.
struct CtcAlignOutputs {
  at::Tensor paths, states, scores, total;

  CtcAlignOutputs(CtcAlignCall& call, const CtcInputs& p, const at::Tensor& logits, std::optional<int64_t> band,
                  double star_penalty) {
    TORCH_CHECK_VALUE(band.value_or(1) > 0, "ctc_align: band is ", band.value_or(0), "; it takes 1 or more.");
    // A band wider than any target is none.
    call.band = band.value_or(0) > p.most_labels ? 0 : band.value_or(0);
    call.star_penalty = star_penalty;
    const auto real = logits.options().dtype(real_of(logits));
    paths = at::empty({p.batch, p.frames}, logits.options().dtype(at::kLong));
    states = at::empty({p.batch, p.frames}, logits.options().dtype(at::kInt));
    scores = at::empty({p.batch, p.frames}, real);
    total = at::empty({p.batch}, real);
    call.paths = paths.data_ptr<int64_t>(), call.states = states.data_ptr<int32_t>();
    call.scores = scores.data_ptr(), call.total = total.data_ptr();
  }

  std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> tensors() const { return {paths, states, scores, total}; }
};

}  // namespace lisa
