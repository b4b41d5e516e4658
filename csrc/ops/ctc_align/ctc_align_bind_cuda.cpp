// at::Tensor -> parameters of the CUDA kernels.  No c10/cuda: the stream comes from Python as an integer.
#include <torch/library.h>

#include <limits>
#include <optional>

#include "../../core/library.h"
#include "ctc_align_bind.h"
#include "ctc_align_cuda.h"

namespace {
constexpr lisa::CtcCaller kCaller{"ctc_align", lisa::kOnDevice};

auto align(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& logit_lengths,
           const at::Tensor& target_lengths, const std::optional<at::Tensor>& log_priors, int64_t blank,
           std::optional<int64_t> star, double star_penalty, std::optional<int64_t> band, int64_t stream) {
  lisa::ctc::Align call{};
  lisa::ctc::Problem& p = call.problem;
  set_inputs(p, logits, targets, target_lengths, blank, star, kCaller);
  // Indices within a row and numbers of blocks are 32-bit.
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max() / 4;
  TORCH_CHECK_VALUE(p.frames * p.batch <= kMost && p.classes <= kMost && p.most_labels <= kMost && p.batch <= 65535,
                    "ctc_align: logits has shape ", logits.sizes(), " and targets ", targets.sizes(),
                    "; the CUDA kernels take up to 65535 utterances, ", kMost, " frames in all, classes and labels.");
  call.logit_lengths = lengths_of(logit_lengths, "logit_lengths", logits, kCaller);
  call.log_priors = log_priors_of(log_priors, logits, kCaller);
  const lisa::CtcAlignOutputs outputs(call, p, logits, band, star_penalty);
  const lisa::Scratch scratch(lisa::ctc::lay_out(call, nullptr), logits);
  lisa::ctc::lay_out(call, scratch.data);
  lisa::check_launch(lisa::ctc::align(call, reinterpret_cast<void*>(stream)), kCaller.op);
  return outputs.tensors();
}
}  // namespace

TORCH_LIBRARY_FRAGMENT(LISA_CUDA_LIBRARY, m) {
  m.def(
      "ctc_align_cuda_fwd(Tensor logits, Tensor targets, Tensor logit_lengths, Tensor target_lengths,"
      " Tensor? log_priors, int blank, int? star, float star_penalty, int? band, int stream)"
      " -> (Tensor paths, Tensor states, Tensor scores, Tensor total)");
}
TORCH_LIBRARY_IMPL(LISA_CUDA_LIBRARY, LISA_CUDA_KEY, m) { m.impl("ctc_align_cuda_fwd", &align); }
