// at::Tensor -> parameters of the CUDA kernels.  No c10/cuda: the stream comes from Python as an integer.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <limits>
#include <optional>
#include <tuple>

#include "../../core/library.h"
#include "../../core/tensor.h"
#include "ctc_align_cuda.h"

namespace {
using lisa::ctc::Align;
using lisa::ctc::Problem;

constexpr const char* kBring = " here; lisa_kernels.ctc_align brings it so.";

void check_lengths(const at::Tensor& lengths, const char* name, const at::Tensor& logits) {
  TORCH_CHECK_VALUE(lengths.scalar_type() == at::kLong && lengths.is_contiguous() &&
                        lengths.numel() == logits.size(1) && lengths.device() == logits.device(),
                    "ctc_align: ", name, " must be contiguous int64 [N] on the device of logits", kBring);
}

Problem problem_of(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& target_lengths,
                   int64_t blank) {
  TORCH_CHECK_VALUE(logits.dim() == 3 && (logits.stride(2) == 1 || logits.size(2) == 1),
                    "ctc_align: logits must be [T, N, C] with dense classes", kBring);
  TORCH_CHECK_VALUE(targets.is_contiguous() &&
                        (targets.scalar_type() == at::kLong || targets.scalar_type() == at::kInt) &&
                        targets.device() == logits.device(),
                    "ctc_align: targets must be contiguous int32 or int64 on the device of logits", kBring);
  Problem p{};
  p.dtype = lisa::dtype_of(logits, "ctc_align", "logits");
  p.logits = logits.const_data_ptr();
  p.stride_t = logits.stride(0), p.stride_n = logits.stride(1);
  p.frames = logits.size(0), p.batch = logits.size(1), p.classes = logits.size(2);
  TORCH_CHECK_VALUE(blank >= 0 && blank < p.classes, "ctc_align: blank is ", blank, "; it takes 0 to ", p.classes - 1,
                    ".");
  TORCH_CHECK_VALUE(targets.dim() != 2 || targets.size(0) == p.batch, "ctc_align: targets has ", targets.size(0),
                    " rows; it takes N = ", p.batch, ".");
  check_lengths(target_lengths, "target_lengths", logits);
  p.targets = targets.const_data_ptr();
  p.targets_are_int32 = targets.scalar_type() == at::kInt;
  p.concatenated = targets.dim() != 2;
  p.target_count = targets.numel();
  p.most_labels = p.concatenated ? targets.numel() : targets.size(1);
  p.target_lengths = target_lengths.const_data_ptr<int64_t>();
  p.blank = blank;
  // Indices within a row and numbers of blocks are 32-bit.
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max() / 4;
  TORCH_CHECK_VALUE(p.frames * p.batch <= kMost && p.classes <= kMost && p.most_labels <= kMost && p.batch <= 65535,
                    "ctc_align: logits has shape ", logits.sizes(), " and targets ", targets.sizes(),
                    "; the CUDA kernels take up to 65535 utterances, ", kMost, " frames in all, classes and labels.");
  return p;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> align(
    const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& logit_lengths,
    const at::Tensor& target_lengths, const std::optional<at::Tensor>& log_priors, int64_t blank,
    std::optional<int64_t> star, double star_penalty, std::optional<int64_t> band, int64_t stream) {
  Align call{};
  Problem& p = call.problem = problem_of(logits, targets, target_lengths, blank);
  check_lengths(logit_lengths, "logit_lengths", logits);
  const auto real = lisa::real_of(logits);
  TORCH_CHECK_VALUE(!log_priors || (log_priors->scalar_type() == real && log_priors->is_contiguous() &&
                                    log_priors->numel() == p.classes && log_priors->device() == logits.device()),
                    "ctc_align: log_priors must be contiguous [C] of the computation's dtype on the device of logits",
                    kBring);
  TORCH_CHECK_VALUE(band.value_or(1) > 0, "ctc_align: band is ", band.value_or(0), "; it takes 1 or more.");
  call.logit_lengths = logit_lengths.const_data_ptr<int64_t>();
  call.log_priors = log_priors ? log_priors->const_data_ptr() : nullptr;
  call.has_star = star.has_value(), call.star = star.value_or(0), call.star_penalty = star_penalty;
  call.band = band.value_or(0);

  auto paths = at::empty({p.batch, p.frames}, logits.options().dtype(at::kLong));
  auto states = at::empty({p.batch, p.frames}, logits.options().dtype(at::kInt));
  auto scores = at::empty({p.batch, p.frames}, logits.options().dtype(real));
  auto total = at::empty({p.batch}, logits.options().dtype(real));
  call.paths = paths.data_ptr<int64_t>(), call.states = states.data_ptr<int32_t>();
  call.scores = scores.data_ptr(), call.total = total.data_ptr();
  // torch's memory is aligned to 64 bytes and more.
  auto scratch = at::empty({lisa::ctc::lay_out(call, nullptr)}, logits.options().dtype(at::kByte));
  lisa::ctc::lay_out(call, static_cast<char*>(scratch.data_ptr()));
  const int error = lisa::ctc::align(call, reinterpret_cast<void*>(stream));
  TORCH_CHECK(error == 0, "ctc_align: a launch failed with CUDA error ", error, ".");
  return {paths, states, scores, total};
}
}  // namespace

TORCH_LIBRARY_FRAGMENT(LISA_CUDA_LIBRARY, m) {
  m.def(
      "ctc_align_cuda_fwd(Tensor logits, Tensor targets, Tensor logit_lengths, Tensor target_lengths,"
      " Tensor? log_priors, int blank, int? star, float star_penalty, int? band, int stream)"
      " -> (Tensor paths, Tensor states, Tensor scores, Tensor total)");
}
TORCH_LIBRARY_IMPL(LISA_CUDA_LIBRARY, LISA_CUDA_KEY, m) { m.impl("ctc_align_cuda_fwd", &align); }
