// at::Tensor -> parameters, and the choice of the capability's build.  Light ATen headers only.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "../../core/capability.h"
#include "ctc.h"

namespace {
using lisa::CtcBackward;
using lisa::CtcForward;
using lisa::CtcProblem;
using lisa::Dtype;

struct Kernels {
  decltype(&lisa::baseline::ctc_scratch_bytes) scratch_bytes;
  decltype(&lisa::baseline::ctc_forward) forward;
  decltype(&lisa::baseline::ctc_backward) backward;
};

Kernels kernels() {
  switch (lisa::cpu_capability()) {
#if defined(LISA_HAVE_X86)
    case lisa::Capability::kAvx512:
      return {lisa::avx512::ctc_scratch_bytes, lisa::avx512::ctc_forward, lisa::avx512::ctc_backward};
    case lisa::Capability::kAvx2:
      return {lisa::avx2::ctc_scratch_bytes, lisa::avx2::ctc_forward, lisa::avx2::ctc_backward};
#endif
    default: return {lisa::baseline::ctc_scratch_bytes, lisa::baseline::ctc_forward, lisa::baseline::ctc_backward};
  }
}

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

void check_int64(const at::Tensor& lengths, const char* name, int64_t batch) {
  TORCH_CHECK_VALUE(lengths.scalar_type() == at::kLong && lengths.is_contiguous() && lengths.numel() == batch,
                    "ctc_loss: ", name, " must be contiguous int64 [N] here; lisa_kernels.ctc_loss brings it so.");
}

// The first 64-byte boundary in a byte tensor.
char* aligned(const at::Tensor& bytes) {
  const auto address = reinterpret_cast<uintptr_t>(bytes.data_ptr());
  return reinterpret_cast<char*>((address + 63) / 64 * 64);
}

void check_pairs(const CtcProblem& p, bool with_consistency) {
  TORCH_CHECK_VALUE(!with_consistency || p.batch % 2 == 0, "ctc_loss: logits has N = ", p.batch,
                    " utterances; with consistency it takes an even number.");
}

void* pointer_or_null(const at::Tensor& optional) { return optional.numel() ? optional.data_ptr() : nullptr; }

// A problem and the offsets it points to.
struct Problem {
  CtcProblem p{};
  std::vector<int64_t> offsets, ends;

  Problem(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& target_lengths, int64_t blank,
          std::optional<int64_t> star) {
    TORCH_CHECK_VALUE(
        logits.dim() == 3 && (logits.stride(2) == 1 || logits.size(2) == 1),
        "ctc_loss: logits must be [T, N, C] with dense classes here; lisa_kernels.ctc_loss brings it so.");
    TORCH_CHECK_VALUE(
        targets.is_contiguous() && (targets.scalar_type() == at::kLong || targets.scalar_type() == at::kInt),
        "ctc_loss: targets must be contiguous int32 or int64 here; lisa_kernels.ctc_loss brings it so.");
    p.dtype = dtype_of(logits);
    p.logits = logits.const_data_ptr();
    p.stride_t = logits.stride(0), p.stride_n = logits.stride(1);
    p.frames = logits.size(0), p.batch = logits.size(1), p.classes = logits.size(2);
    TORCH_CHECK_VALUE(blank >= 0 && blank < p.classes, "ctc_loss: blank is ", blank, "; it takes 0 to ", p.classes - 1,
                      ".");
    TORCH_CHECK_VALUE(targets.dim() != 2 || targets.size(0) == p.batch, "ctc_loss: targets has ", targets.size(0),
                      " rows; it takes N = ", p.batch, ".");
    check_int64(target_lengths, "target_lengths", p.batch);
    p.targets = targets.const_data_ptr();
    p.targets_are_int32 = targets.scalar_type() == at::kInt;
    p.target_lengths = target_lengths.const_data_ptr<int64_t>();
    p.target_count = targets.numel();
    p.blank = blank;
    p.has_star = star.has_value(), p.star = star.value_or(-1);
    TORCH_CHECK_VALUE(!star || *star < 0 || *star >= p.classes, "ctc_loss: star is ", p.star,
                      "; it takes a number that is no class.");
    p.by_class = p.target_count + p.batch >= p.batch * p.classes;
    place_targets(targets);
  }

  // Where each target lies.  Lengths out of range get no room beyond the tensor: the kernel answers them with NaN.
  void place_targets(const at::Tensor& targets) {
    offsets.resize(p.batch), ends.resize(p.batch);
    int64_t next = 0;
    for (int64_t n = 0; n < p.batch; ++n) {
      const int64_t room =
          targets.dim() == 2 ? targets.size(1) : std::clamp<int64_t>(p.target_lengths[n], 0, p.target_count - next);
      offsets[n] = next, ends[n] = next + room;
      next += room;
    }
    p.target_offsets = offsets.data(), p.target_ends = ends.data();
  }

  void set_saved(const at::Tensor& row_max, const at::Tensor& log_sum, const at::Tensor& row_entropy,
                 const at::Tensor& star_rows, const at::Tensor& occupancy) {
    p.row_max = row_max.data_ptr(), p.log_sum = log_sum.data_ptr(), p.occupancy = occupancy.data_ptr();
    p.row_entropy = pointer_or_null(row_entropy), p.star_rows = p.has_star ? star_rows.data_ptr() : nullptr;
  }

  int64_t occupancy_size() const { return p.frames * (p.by_class ? p.batch * p.classes : p.target_count + p.batch); }
};

using Outputs =
    std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

Outputs forward(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& logit_lengths,
                const at::Tensor& target_lengths, const std::optional<at::Tensor>& log_priors, int64_t blank,
                std::optional<int64_t> star, double star_penalty, bool zero_infinity, bool with_entropy,
                bool with_consistency, bool save) {
  Problem problem(logits, targets, target_lengths, blank, star);
  const CtcProblem& p = problem.p;
  check_int64(logit_lengths, "logit_lengths", p.batch);
  check_pairs(p, with_consistency);
  const auto real = logits.options().dtype(real_of(logits));
  if (log_priors)
    TORCH_CHECK_VALUE(
        log_priors->scalar_type() == real_of(logits) && log_priors->is_contiguous() && log_priors->numel() == p.classes,
        "ctc_loss: log_priors must be contiguous [C] in the computation's dtype here; "
        "lisa_kernels.ctc_loss brings it so.");
  const int64_t frames = p.frames, batch = p.batch;
  auto loss = at::empty({batch}, real);
  auto entropy = at::empty({with_entropy ? batch : 0}, real);
  auto consistency = at::empty({with_consistency ? batch : 0}, real);
  auto row_max = at::empty({frames, batch}, real);
  auto log_sum = at::empty({frames, batch}, real);
  auto row_entropy = with_entropy ? at::empty({frames, batch}, real) : at::empty({0}, real);
  auto star_rows = star ? at::empty({2, frames, batch}, real) : at::empty({0}, real);
  auto occupancy = at::empty({save ? problem.occupancy_size() : 0}, real);
  problem.set_saved(row_max, log_sum, row_entropy, star_rows, occupancy);
  auto row_divergence = at::empty({with_consistency ? frames * batch : 0}, real);

  const Kernels run = kernels();
  const int threads = at::get_num_threads();
  CtcForward call{};
  call.problem = p;
  call.logit_lengths = logit_lengths.const_data_ptr<int64_t>();
  call.loss = loss.data_ptr();
  call.entropy = pointer_or_null(entropy), call.consistency = pointer_or_null(consistency);
  call.row_divergence = pointer_or_null(row_divergence);
  call.log_priors = log_priors ? log_priors->const_data_ptr() : nullptr;
  call.star_penalty = star_penalty;
  call.zero_infinity = zero_infinity, call.save = save;
  auto scratch = at::empty({run.scratch_bytes(call, threads) + 64}, logits.options().dtype(at::kByte));
  call.scratch = aligned(scratch);
  run.forward(call, threads);
  return {loss, entropy, consistency, row_max, log_sum, row_entropy, star_rows, occupancy};
}

// Writes into `grad`, whose strides the caller chooses; it may be the logits.
void backward(const at::Tensor& grad_loss, const at::Tensor& grad_entropy, const at::Tensor& grad_consistency,
              const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& target_lengths,
              const at::Tensor& row_max, const at::Tensor& log_sum, const at::Tensor& row_entropy,
              const at::Tensor& star_rows, const at::Tensor& occupancy, int64_t blank, std::optional<int64_t> star,
              bool with_entropy, bool with_consistency, const at::Tensor& grad) {
  Problem problem(logits, targets, target_lengths, blank, star);
  const CtcProblem& p = problem.p;
  check_pairs(p, with_consistency);
  const auto real = real_of(logits);
  for (const at::Tensor* saved :
       {&grad_loss, &grad_entropy, &grad_consistency, &row_max, &log_sum, &row_entropy, &star_rows, &occupancy})
    TORCH_CHECK_VALUE(saved->scalar_type() == real && saved->is_contiguous(),
                      "ctc_loss: saved tensors and upstream gradients must be contiguous and of the computation's "
                      "dtype.");
  const int64_t rows = p.frames * p.batch;
  TORCH_CHECK_VALUE(occupancy.numel() == problem.occupancy_size() && row_max.numel() == rows &&
                        log_sum.numel() == rows && row_entropy.numel() == (with_entropy ? rows : 0) &&
                        star_rows.numel() == (star ? 2 * rows : 0) && grad_loss.numel() == p.batch &&
                        grad_entropy.numel() == (with_entropy ? p.batch : 0) &&
                        grad_consistency.numel() == (with_consistency ? p.batch : 0),
                    "ctc_loss: saved tensors do not belong to these logits and targets.");
  TORCH_CHECK_VALUE(grad.sizes() == logits.sizes() && grad.scalar_type() == logits.scalar_type() &&
                        (grad.stride(2) == 1 || grad.size(2) == 1),
                    "ctc_loss: grad must have shape and dtype of logits, with dense classes.");
  problem.set_saved(row_max, log_sum, row_entropy, star_rows, occupancy);
  const int threads = at::get_num_threads();
  const int64_t row_bytes = (p.classes * at::elementSize(real) + 63) / 64 * 64;
  auto scratch = at::empty({2 * threads * row_bytes + 64}, logits.options().dtype(at::kByte));
  const CtcBackward call{p,
                         grad_loss.const_data_ptr(),
                         pointer_or_null(grad_entropy),
                         pointer_or_null(grad_consistency),
                         grad.data_ptr(),
                         grad.stride(0),
                         grad.stride(1),
                         aligned(scratch),
                         row_bytes};
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
