// at::Tensor -> the parameters that the bindings of ctc_loss share, for the CPU and for CUDA.
#pragma once
#include <tuple>

#include "ctc_inputs_bind.h"

namespace lisa {

inline void set_loss_inputs(CtcLossInputs& p, const at::Tensor& logits, const at::Tensor& targets,
                            const at::Tensor& target_lengths, int64_t blank, std::optional<int64_t> star,
                            CtcCaller by) {
  set_inputs(p, logits, targets, target_lengths, blank, star, by);
  p.by_class = p.target_count + p.batch >= p.batch * p.classes;
}

// What forward saves and backward takes.
struct CtcSaved {
  at::Tensor row_max, log_sum, row_entropy, star_rows, occupancy;

  void set(CtcLossInputs& p) const {
    p.row_max = row_max.data_ptr(), p.log_sum = log_sum.data_ptr(), p.occupancy = occupancy.data_ptr();
    p.row_entropy = pointer_or_null(row_entropy), p.star_rows = pointer_or_null(star_rows);
  }
};

// What forward returns.
struct CtcOutputs {
  at::Tensor loss, entropy, consistency;
  CtcSaved saved;

  CtcOutputs(CtcForwardCall& call, CtcLossInputs& p, const at::Tensor& logits, bool with_entropy,
             bool with_consistency) {
    const auto real = logits.options().dtype(real_of(logits));
    loss = at::empty({p.batch}, real);
    entropy = at::empty({with_entropy ? p.batch : 0}, real);
    consistency = at::empty({with_consistency ? p.batch : 0}, real);
    saved = {at::empty({p.frames, p.batch}, real), at::empty({p.frames, p.batch}, real),
             with_entropy ? at::empty({p.frames, p.batch}, real) : at::empty({0}, real),
             p.has_star ? at::empty({2, p.frames, p.batch}, real) : at::empty({0}, real),
             at::empty({call.save ? occupancy_size(p) : 0}, real)};
    call.loss = loss.data_ptr();
    call.entropy = pointer_or_null(entropy), call.consistency = pointer_or_null(consistency);
    saved.set(p);
  }

  std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> tensors()
      const {
    return {loss,          entropy,           consistency,     saved.row_max,
            saved.log_sum, saved.row_entropy, saved.star_rows, saved.occupancy};
  }
};

// Upstream gradients; empty where the option was not asked for.
struct CtcUpstream {
  at::Tensor loss, entropy, consistency;
};

inline void set_gradients(CtcBackwardCall& call, CtcLossInputs& p, const at::Tensor& logits,
                          const CtcUpstream& upstream, const CtcSaved& saved, bool with_entropy, bool with_consistency,
                          const at::Tensor& grad) {
  const int64_t rows = p.frames * p.batch;
  TORCH_CHECK_VALUE(saved.occupancy.numel() == occupancy_size(p) && saved.row_max.numel() == rows &&
                        saved.log_sum.numel() == rows && saved.row_entropy.numel() == (with_entropy ? rows : 0) &&
                        saved.star_rows.numel() == (p.has_star ? 2 * rows : 0) && upstream.loss.numel() == p.batch &&
                        upstream.entropy.numel() == (with_entropy ? p.batch : 0) &&
                        upstream.consistency.numel() == (with_consistency ? p.batch : 0),
                    "ctc_loss: saved tensors do not belong to these logits and targets.");
  TORCH_CHECK_VALUE(grad.sizes() == logits.sizes() && grad.scalar_type() == logits.scalar_type() &&
                        (grad.stride(2) == 1 || grad.size(2) == 1),
                    "ctc_loss: grad must have shape and dtype of logits, with dense classes.");
  saved.set(p);
  call.grad_loss = upstream.loss.const_data_ptr();
  call.grad_entropy = pointer_or_null(upstream.entropy);
  call.grad_consistency = pointer_or_null(upstream.consistency);
  call.grad_logits = grad.data_ptr();
  call.grad_stride_t = grad.stride(0), call.grad_stride_n = grad.stride(1);
}

}  // namespace lisa
