// at::Tensor -> parameters, and the choice of the capability's build.  Light ATen headers only.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <optional>

#include "../../core/capability.h"
#include "ctc.h"
#include "ctc_loss_bind.h"

namespace {
using lisa::CtcBackward;
using lisa::CtcForward;
using lisa::CtcOutputs;
using lisa::CtcPlaces;
using lisa::CtcProblem;
using lisa::CtcSaved;
using lisa::CtcUpstream;
using lisa::Scratch;

constexpr lisa::CtcCaller kCaller{"ctc_loss", ""};

struct Kernels {
  decltype(&lisa::baseline::ctc_scratch_bytes) scratch_bytes;
  decltype(&lisa::baseline::ctc_forward) forward;
  decltype(&lisa::baseline::ctc_backward) backward;
};

Kernels kernels() {
  switch (lisa::cpu_capability()) {
#if defined(LISA_HAVE_X86)
    case lisa::Capability::kAvx512Bf16:
    case lisa::Capability::kAvx512:
      return {lisa::avx512::ctc_scratch_bytes, lisa::avx512::ctc_forward, lisa::avx512::ctc_backward};
    case lisa::Capability::kAvx2:
      return {lisa::avx2::ctc_scratch_bytes, lisa::avx2::ctc_forward, lisa::avx2::ctc_backward};
#endif
    default: return {lisa::baseline::ctc_scratch_bytes, lisa::baseline::ctc_forward, lisa::baseline::ctc_backward};
  }
}

void check_pairs(const CtcProblem& p, bool with_consistency) {
  TORCH_CHECK_VALUE(!with_consistency || p.batch % 2 == 0, "ctc_loss: logits has N = ", p.batch,
                    " utterances; with consistency it takes an even number.");
}

auto forward(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& logit_lengths,
             const at::Tensor& target_lengths, const std::optional<at::Tensor>& log_priors, int64_t blank,
             std::optional<int64_t> star, double star_penalty, bool zero_infinity, bool with_entropy,
             bool with_consistency, bool save) {
  CtcForward call{};
  CtcProblem& p = call.problem;
  set_loss_inputs(p, logits, targets, target_lengths, blank, star, kCaller);
  call.logit_lengths = lengths_of(logit_lengths, "logit_lengths", logits, kCaller);
  check_pairs(p, with_consistency);
  call.log_priors = log_priors_of(log_priors, logits, kCaller);
  call.star_penalty = star_penalty;
  call.zero_infinity = zero_infinity, call.save = save;
  const CtcPlaces places(p);
  p.target_offsets = places.offsets.data(), p.target_ends = places.ends.data();
  const CtcOutputs outputs(call, p, logits, with_entropy, with_consistency);
  const auto row_divergence = at::empty({with_consistency ? p.frames * p.batch : 0}, outputs.loss.options());
  call.row_divergence = lisa::pointer_or_null(row_divergence);

  const Kernels run = kernels();
  const int threads = at::get_num_threads();
  const Scratch scratch(run.scratch_bytes(call, threads), logits);
  call.scratch = scratch.data;
  run.forward(call, threads);
  return outputs.tensors();
}

// Writes into `grad`, whose strides the caller chooses; it may be the logits.
void backward(const at::Tensor& grad_loss, const at::Tensor& grad_entropy, const at::Tensor& grad_consistency,
              const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& target_lengths,
              const at::Tensor& row_max, const at::Tensor& log_sum, const at::Tensor& row_entropy,
              const at::Tensor& star_rows, const at::Tensor& occupancy, int64_t blank, std::optional<int64_t> star,
              bool with_entropy, bool with_consistency, const at::Tensor& grad) {
  CtcBackward call{};
  CtcProblem& p = call.problem;
  set_loss_inputs(p, logits, targets, target_lengths, blank, star, kCaller);
  check_pairs(p, with_consistency);
  const auto real = lisa::real_of(logits);
  for (const at::Tensor* saved :
       {&grad_loss, &grad_entropy, &grad_consistency, &row_max, &log_sum, &row_entropy, &star_rows, &occupancy})
    TORCH_CHECK_VALUE(saved->scalar_type() == real && saved->is_contiguous(),
                      "ctc_loss: saved tensors and upstream gradients must be contiguous and of the computation's "
                      "dtype.");
  const CtcUpstream upstream{grad_loss, grad_entropy, grad_consistency};
  const CtcSaved saved_tensors{row_max, log_sum, row_entropy, star_rows, occupancy};
  set_gradients(call, p, logits, upstream, saved_tensors, with_entropy, with_consistency, grad);
  const CtcPlaces places(p);
  p.target_offsets = places.offsets.data(), p.target_ends = places.ends.data();
  const int threads = at::get_num_threads();
  call.row_bytes = (p.classes * at::elementSize(real) + 63) / 64 * 64;
  const Scratch scratch(2 * threads * call.row_bytes, logits);
  call.scratch = scratch.data;
  kernels().backward(call, threads);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(lisa_C, m) {
  m.def(
      "ctc_loss_fwd(Tensor logits, Tensor targets, Tensor logit_lengths, Tensor target_lengths, Tensor? log_priors,"
      " int blank, int? star, float star_penalty, bool zero_infinity, bool with_entropy, bool with_consistency,"
      " bool save) -> (Tensor loss, Tensor entropy, Tensor consistency, Tensor row_max, Tensor log_sum,"
      " Tensor row_entropy, Tensor star_rows, Tensor occupancy)");
  m.def(
      "ctc_loss_bwd(Tensor grad_loss, Tensor grad_entropy, Tensor grad_consistency, Tensor logits, Tensor targets,"
      " Tensor target_lengths, Tensor row_max, Tensor log_sum, Tensor row_entropy, Tensor star_rows,"
      " Tensor occupancy, int blank, int? star, bool with_entropy, bool with_consistency,"
      " Tensor(a!) grad_logits) -> ()");
}
TORCH_LIBRARY_IMPL(lisa_C, CPU, m) {
  m.impl("ctc_loss_fwd", &forward);
  m.impl("ctc_loss_bwd", &backward);
}
