// at::Tensor -> parameters of the CUDA kernels.  No c10/cuda: the stream comes from Python as an integer.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <limits>
#include <optional>
#include <tuple>

#include "../../core/library.h"
#include "ctc_cuda.h"

namespace {
using lisa::Dtype;
using lisa::ctc::Backward;
using lisa::ctc::Forward;
using lisa::ctc::Problem;

Dtype dtype_of(const at::Tensor& logits) {
  switch (logits.scalar_type()) {
    case at::kFloat: return Dtype::kFloat32;
    case at::kDouble: return Dtype::kFloat64;
    case at::kBFloat16: return Dtype::kBFloat16;
    case at::kHalf: return Dtype::kFloat16;
    default:
      TORCH_CHECK_TYPE(false, "ctc_loss: logits is ", logits.scalar_type(),
                       "; the native kernel takes float32, float64, bfloat16 or float16.");
  }
}

at::ScalarType real_of(const at::Tensor& logits) {
  return logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

void check_lengths(const at::Tensor& lengths, const char* name, const at::Tensor& logits) {
  TORCH_CHECK_VALUE(lengths.scalar_type() == at::kLong && lengths.is_contiguous() &&
                        lengths.numel() == logits.size(1) && lengths.device() == logits.device(),
                    "ctc_loss: ", name,
                    " must be contiguous int64 [N] on the device of logits here; "
                    "lisa_kernels.ctc_loss brings it so.");
}

Problem problem_of(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& target_lengths, int64_t blank,
                   std::optional<int64_t> star) {
  TORCH_CHECK_VALUE(logits.dim() == 3 && (logits.stride(2) == 1 || logits.size(2) == 1),
                    "ctc_loss: logits must be [T, N, C] with dense classes here; lisa_kernels.ctc_loss brings it so.");
  TORCH_CHECK_VALUE(targets.is_contiguous() &&
                        (targets.scalar_type() == at::kLong || targets.scalar_type() == at::kInt) &&
                        targets.device() == logits.device(),
                    "ctc_loss: targets must be contiguous int32 or int64 on the device of logits here; "
                    "lisa_kernels.ctc_loss brings it so.");
  Problem p{};
  p.dtype = dtype_of(logits);
  p.logits = logits.const_data_ptr();
  p.stride_t = logits.stride(0), p.stride_n = logits.stride(1);
  p.frames = logits.size(0), p.batch = logits.size(1), p.classes = logits.size(2);
  TORCH_CHECK_VALUE(blank >= 0 && blank < p.classes, "ctc_loss: blank is ", blank, "; it takes 0 to ", p.classes - 1,
                    ".");
  TORCH_CHECK_VALUE(targets.dim() != 2 || targets.size(0) == p.batch, "ctc_loss: targets has ", targets.size(0),
                    " rows; it takes N = ", p.batch, ".");
  check_lengths(target_lengths, "target_lengths", logits);
  p.targets = targets.const_data_ptr();
  p.targets_are_int32 = targets.scalar_type() == at::kInt;
  p.concatenated = targets.dim() != 2;
  p.target_count = targets.numel();
  p.most_labels = p.concatenated ? targets.numel() : targets.size(1);
  p.target_lengths = target_lengths.const_data_ptr<int64_t>();
  p.blank = blank;
  p.has_star = star.has_value(), p.star = star.value_or(0);
  p.by_class = p.target_count + p.batch >= p.batch * p.classes;
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

int64_t occupancy_size(const Problem& p) {
  return p.frames * (p.by_class ? p.batch * p.classes : p.target_count + p.batch);
}

void set_saved(Problem& p, const at::Tensor& row_max, const at::Tensor& log_sum, const at::Tensor& occupancy) {
  p.row_max = row_max.data_ptr(), p.log_sum = log_sum.data_ptr(), p.occupancy = occupancy.data_ptr();
}

void set_options(Problem& p, const at::Tensor& row_entropy, const at::Tensor& star_rows, bool with_entropy) {
  p.row_entropy = with_entropy ? row_entropy.data_ptr() : nullptr;
  p.star_rows = p.has_star ? star_rows.data_ptr() : nullptr;
}

void* stream_of(int64_t stream) { return reinterpret_cast<void*>(stream); }

void check(int error) { TORCH_CHECK(error == 0, "ctc_loss: a launch failed with CUDA error ", error, "."); }

at::Tensor bytes(int64_t count, const at::Tensor& like) { return at::empty({count}, like.options().dtype(at::kByte)); }

using Outputs =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

Outputs forward(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& logit_lengths,
                const at::Tensor& target_lengths, const std::optional<at::Tensor>& log_priors, int64_t blank,
                std::optional<int64_t> star, double star_penalty, bool zero_infinity, bool with_entropy,
                bool with_consistency, bool save, int64_t kept_bytes, int64_t stream) {
  Forward call{};
  Problem& p = call.problem = problem_of(logits, targets, target_lengths, blank, star);
  check_lengths(logit_lengths, "logit_lengths", logits);
  TORCH_CHECK_VALUE(!log_priors || (log_priors->scalar_type() == real_of(logits) && log_priors->is_contiguous() &&
                                    log_priors->numel() == p.classes && log_priors->device() == logits.device()),
                    "ctc_loss: log_priors must be contiguous [C] of the computation's dtype on the device of logits "
                    "here; lisa_kernels.ctc_loss brings it so.");
  TORCH_CHECK_VALUE(!with_consistency || p.batch % 2 == 0, "ctc_loss: logits has N = ", p.batch,
                    "; with consistency it takes an even number, two views of each utterance.");
  const auto real = logits.options().dtype(real_of(logits));
  auto loss = at::empty({p.batch}, real);
  auto entropy = at::empty({with_entropy ? p.batch : 0}, real);
  auto consistency = at::empty({with_consistency ? p.batch : 0}, real);
  auto row_max = at::empty({p.frames, p.batch}, real);
  auto log_sum = at::empty({p.frames, p.batch}, real);
  auto row_entropy = with_entropy ? at::empty({p.frames, p.batch}, real) : at::empty({0}, real);
  auto star_rows = star ? at::empty({2, p.frames, p.batch}, real) : at::empty({0}, real);
  auto occupancy = at::empty({save ? occupancy_size(p) : 0}, real);
  set_saved(p, row_max, log_sum, occupancy);
  set_options(p, row_entropy, star_rows, with_entropy);
  call.logit_lengths = logit_lengths.const_data_ptr<int64_t>();
  call.loss = loss.data_ptr();
  call.entropy = with_entropy ? entropy.data_ptr() : nullptr;
  call.consistency = with_consistency ? consistency.data_ptr() : nullptr;
  call.log_priors = log_priors ? log_priors->const_data_ptr() : nullptr;
  call.star_penalty = star_penalty;
  call.zero_infinity = zero_infinity, call.save = save;
  // torch's memory is aligned to 64 bytes and more.
  auto scratch = bytes(lisa::ctc::lay_out(call, nullptr, kept_bytes), logits);
  lisa::ctc::lay_out(call, static_cast<char*>(scratch.data_ptr()), kept_bytes);
  check(lisa::ctc::forward(call, stream_of(stream)));
  return {loss, entropy, consistency, row_max, log_sum, row_entropy, star_rows, occupancy};
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
    TORCH_CHECK_VALUE(saved->scalar_type() == real_of(logits) && saved->is_contiguous(),
                      "ctc_loss: saved tensors and gradients must be contiguous and of the computation's dtype.");
  const int64_t rows = p.frames * p.batch;
  TORCH_CHECK_VALUE(occupancy.numel() == occupancy_size(p) && row_max.numel() == rows && log_sum.numel() == rows &&
                        grad_loss.numel() == p.batch && grad_entropy.numel() == (with_entropy ? p.batch : 0) &&
                        grad_consistency.numel() == (with_consistency ? p.batch : 0) &&
                        row_entropy.numel() == (with_entropy ? rows : 0) && star_rows.numel() == (star ? 2 * rows : 0),
                    "ctc_loss: saved tensors do not belong to these logits and targets.");
  TORCH_CHECK_VALUE(grad.sizes() == logits.sizes() && grad.scalar_type() == logits.scalar_type() &&
                        (grad.stride(2) == 1 || grad.size(2) == 1),
                    "ctc_loss: grad must have shape and dtype of logits, with dense classes.");
  set_saved(p, row_max, log_sum, occupancy);
  set_options(p, row_entropy, star_rows, with_entropy);
  call.grad_loss = grad_loss.const_data_ptr();
  call.grad_entropy = with_entropy ? grad_entropy.const_data_ptr() : nullptr;
  call.grad_consistency = with_consistency ? grad_consistency.const_data_ptr() : nullptr;
  call.grad_logits = grad.data_ptr();
  call.grad_stride_t = grad.stride(0), call.grad_stride_n = grad.stride(1);
  auto scratch = bytes(lisa::ctc::lay_out(call, nullptr), logits);
  lisa::ctc::lay_out(call, static_cast<char*>(scratch.data_ptr()));
  check(lisa::ctc::backward(call, stream_of(stream)));
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
