// at::Tensor -> parameters of the CUDA kernels.  No c10/cuda: the stream comes from Python as an integer.
#include <torch/library.h>

#include <limits>
#include <optional>

#include "../../core/library.h"
#include "ctc_cuda.h"
#include "ctc_loss_bind.h"

namespace {
using lisa::CtcOutputs;
using lisa::CtcSaved;
using lisa::CtcUpstream;
using lisa::Scratch;
using lisa::ctc::Backward;
using lisa::ctc::Forward;
using lisa::ctc::Problem;

constexpr lisa::CtcCaller kCaller{"ctc_loss", lisa::kOnDevice};

Problem problem_of(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& target_lengths, int64_t blank,
                   std::optional<int64_t> star) {
  Problem p{};
  set_loss_inputs(p, logits, targets, target_lengths, blank, star, kCaller);
  // Blocks along the first and second axis of a grid, and indices within a row, a frame or an utterance.
  constexpr int64_t kMostRows = std::numeric_limits<int32_t>::max(), kMost = kMostRows / 4,
                    kMostLabels = 65535 * 256 - 1;
  TORCH_CHECK_VALUE(p.frames * p.batch <= kMostRows && p.batch <= kMostRows && p.frames <= kMost &&
                        p.classes <= kMost && p.most_labels <= kMostLabels,
                    "ctc_loss: logits has shape ", logits.sizes(), " and targets ", targets.sizes(),
                    "; the CUDA kernels take up to ", kMost, " frames and classes, ", kMostLabels, " labels and ",
                    kMostRows, " frames in all.");
  return p;
}

auto forward(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& logit_lengths,
             const at::Tensor& target_lengths, const std::optional<at::Tensor>& log_priors, int64_t blank,
             std::optional<int64_t> star, double star_penalty, bool zero_infinity, bool with_entropy,
             bool with_consistency, bool save, int64_t kept_bytes, int64_t stream) {
  Forward call{};
  Problem& p = call.problem = problem_of(logits, targets, target_lengths, blank, star);
  call.logit_lengths = lengths_of(logit_lengths, "logit_lengths", logits, kCaller);
  call.log_priors = log_priors_of(log_priors, logits, kCaller);
  TORCH_CHECK_VALUE(!with_consistency || p.batch % 2 == 0, "ctc_loss: logits has N = ", p.batch,
                    "; with consistency it takes an even number, two views of each utterance.");
  call.star_penalty = star_penalty;
  call.zero_infinity = zero_infinity, call.save = save;
  const CtcOutputs outputs(call, p, logits, with_entropy, with_consistency);
  const Scratch scratch(lisa::ctc::lay_out(call, nullptr, kept_bytes), logits);
  lisa::ctc::lay_out(call, scratch.data, kept_bytes);
  lisa::check_launch(lisa::ctc::forward(call, reinterpret_cast<void*>(stream)), kCaller.op);
  return outputs.tensors();
}

// Writes into `grad`, whose strides the caller chooses; it may be the logits.
void backward(const at::Tensor& grad_loss, const at::Tensor& grad_entropy, const at::Tensor& grad_consistency,
              const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& target_lengths,
              const at::Tensor& row_max, const at::Tensor& log_sum, const at::Tensor& row_entropy,
              const at::Tensor& star_rows, const at::Tensor& occupancy, int64_t blank, std::optional<int64_t> star,
              bool with_entropy, bool with_consistency, const at::Tensor& grad, int64_t stream) {
  Backward call{};
  Problem& p = call.problem = problem_of(logits, targets, target_lengths, blank, star);
  for (const at::Tensor* saved :
       {&grad_loss, &grad_entropy, &grad_consistency, &row_max, &log_sum, &row_entropy, &star_rows, &occupancy})
    TORCH_CHECK_VALUE(saved->scalar_type() == lisa::real_of(logits) && saved->is_contiguous(),
                      "ctc_loss: saved tensors and gradients must be contiguous and of the computation's dtype.");
  const CtcUpstream upstream{grad_loss, grad_entropy, grad_consistency};
  const CtcSaved saved_tensors{row_max, log_sum, row_entropy, star_rows, occupancy};
  set_gradients(call, p, logits, upstream, saved_tensors, with_entropy, with_consistency, grad);
  const Scratch scratch(lisa::ctc::lay_out(call, nullptr), logits);
  lisa::ctc::lay_out(call, scratch.data);
  lisa::check_launch(lisa::ctc::backward(call, reinterpret_cast<void*>(stream)), kCaller.op);
}
}  // namespace

TORCH_LIBRARY_FRAGMENT(LISA_CUDA_LIBRARY, m) {
  m.def(
      "ctc_loss_cuda_fwd(Tensor logits, Tensor targets, Tensor logit_lengths, Tensor target_lengths,"
      " Tensor? log_priors, int blank, int? star, float star_penalty, bool zero_infinity, bool with_entropy,"
      " bool with_consistency, bool save, int kept_bytes, int stream) -> (Tensor loss, Tensor entropy,"
      " Tensor consistency, Tensor row_max, Tensor log_sum, Tensor row_entropy, Tensor star_rows, Tensor occupancy)");
  m.def(
      "ctc_loss_cuda_bwd(Tensor grad_loss, Tensor grad_entropy, Tensor grad_consistency, Tensor logits,"
      " Tensor targets, Tensor target_lengths, Tensor row_max, Tensor log_sum, Tensor row_entropy, Tensor star_rows,"
      " Tensor occupancy, int blank, int? star, bool with_entropy, bool with_consistency, Tensor(a!) grad_logits,"
      " int stream) -> ()");
}
TORCH_LIBRARY_IMPL(LISA_CUDA_LIBRARY, LISA_CUDA_KEY, m) {
  m.impl("ctc_loss_cuda_fwd", &forward);
  m.impl("ctc_loss_cuda_bwd", &backward);
}
