// at::Tensor -> parameters of ctc_align, and the choice of the capability's build.  Light ATen headers only.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "../../core/capability.h"
#include "ctc_align.h"

namespace {
using lisa::CtcAlign;
using lisa::Dtype;

struct Kernels {
  decltype(&lisa::baseline::ctc_align_scratch_bytes) scratch_bytes;
  decltype(&lisa::baseline::ctc_align) align;
};

Kernels kernels() {
  switch (lisa::cpu_capability()) {
#if defined(LISA_HAVE_X86)
    case lisa::Capability::kAvx512: return {lisa::avx512::ctc_align_scratch_bytes, lisa::avx512::ctc_align};
    case lisa::Capability::kAvx2: return {lisa::avx2::ctc_align_scratch_bytes, lisa::avx2::ctc_align};
#endif
    default: return {lisa::baseline::ctc_align_scratch_bytes, lisa::baseline::ctc_align};
  }
}

Dtype dtype_of(const at::Tensor& logits) {
  switch (logits.scalar_type()) {
    case at::kFloat: return Dtype::kFloat32;
    case at::kDouble: return Dtype::kFloat64;
    case at::kBFloat16: return Dtype::kBFloat16;
    case at::kHalf: return Dtype::kFloat16;
    default:
      TORCH_CHECK_TYPE(false, "ctc_align: logits is ", logits.scalar_type(),
                       "; the native kernel takes float32, float64, bfloat16 or float16.");
  }
}

void check_int64(const at::Tensor& lengths, const char* name, int64_t batch) {
  TORCH_CHECK_VALUE(lengths.scalar_type() == at::kLong && lengths.is_contiguous() && lengths.numel() == batch,
                    "ctc_align: ", name, " must be contiguous int64 [N] here; lisa_kernels.ctc_align brings it so.");
}

void check_tensors(const at::Tensor& logits, const at::Tensor& targets, const std::optional<at::Tensor>& log_priors,
                   int64_t blank, at::ScalarType real) {
  TORCH_CHECK_VALUE(
      logits.dim() == 3 && (logits.stride(2) == 1 || logits.size(2) == 1),
      "ctc_align: logits must be [T, N, C] with dense classes here; lisa_kernels.ctc_align brings it so.");
  TORCH_CHECK_VALUE(
      targets.is_contiguous() && (targets.scalar_type() == at::kLong || targets.scalar_type() == at::kInt),
      "ctc_align: targets must be contiguous int32 or int64 here; lisa_kernels.ctc_align brings it so.");
  TORCH_CHECK_VALUE(targets.dim() != 2 || targets.size(0) == logits.size(1), "ctc_align: targets has ", targets.size(0),
                    " rows; it takes N = ", logits.size(1), ".");
  TORCH_CHECK_VALUE(blank >= 0 && blank < logits.size(2), "ctc_align: blank is ", blank, "; it takes 0 to ",
                    logits.size(2) - 1, ".");
  TORCH_CHECK_VALUE(!log_priors || (log_priors->scalar_type() == real && log_priors->is_contiguous() &&
                                    log_priors->numel() == logits.size(2)),
                    "ctc_align: log_priors must be contiguous [C] of the computation's dtype here; "
                    "lisa_kernels.ctc_align brings it so.");
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> align(const at::Tensor& logits, const at::Tensor& targets,
                                                                 const at::Tensor& logit_lengths,
                                                                 const at::Tensor& target_lengths,
                                                                 const std::optional<at::Tensor>& log_priors,
                                                                 int64_t blank, std::optional<int64_t> star,
                                                                 double star_penalty, std::optional<int64_t> band) {
  const auto real = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  check_tensors(logits, targets, log_priors, blank, real);
  TORCH_CHECK_VALUE(!band || *band > 0, "ctc_align: band is ", band.value_or(0), "; it takes 1 or more.");
  const int64_t frames = logits.size(0), batch = logits.size(1);
  check_int64(logit_lengths, "logit_lengths", batch);
  check_int64(target_lengths, "target_lengths", batch);

  CtcAlign call{};
  call.logits = logits.const_data_ptr();
  call.dtype = dtype_of(logits);
  call.stride_t = logits.stride(0), call.stride_n = logits.stride(1);
  call.frames = frames, call.batch = batch, call.classes = logits.size(2);
  call.targets = targets.const_data_ptr();
  call.targets_are_int32 = targets.scalar_type() == at::kInt;
  call.target_lengths = target_lengths.const_data_ptr<int64_t>();
  call.logit_lengths = logit_lengths.const_data_ptr<int64_t>();
  call.log_priors = log_priors ? log_priors->const_data_ptr() : nullptr;
  call.blank = blank;
  call.has_star = star.has_value(), call.star = star.value_or(0), call.star_penalty = star_penalty;
  // A band wider than any target is none.
  const int64_t widest = targets.dim() == 2 ? targets.size(1) : targets.numel();
  call.band = band.value_or(widest + 1) > widest ? 0 : *band;

  // Lengths out of range get no room beyond the tensor: the kernel answers them with NaN.
  std::vector<int64_t> starts(batch), rooms(batch);
  int64_t next = 0;
  for (int64_t n = 0; n < batch; ++n) {
    rooms[n] =
        targets.dim() == 2 ? targets.size(1) : std::clamp<int64_t>(call.target_lengths[n], 0, targets.numel() - next);
    starts[n] = next;
    next += rooms[n];
  }
  call.target_starts = starts.data(), call.target_rooms = rooms.data();

  auto paths = at::empty({batch, frames}, logits.options().dtype(at::kLong));
  auto states = at::empty({batch, frames}, logits.options().dtype(at::kInt));
  auto scores = at::empty({batch, frames}, logits.options().dtype(real));
  auto total = at::empty({batch}, logits.options().dtype(real));
  call.paths = paths.data_ptr<int64_t>(), call.states = states.data_ptr<int32_t>();
  call.scores = scores.data_ptr(), call.total = total.data_ptr();

  const Kernels run = kernels();
  const int threads = at::get_num_threads();
  auto scratch = at::empty({run.scratch_bytes(call, threads) + 64}, logits.options().dtype(at::kByte));
  call.scratch = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(scratch.data_ptr()) + 63) / 64 * 64);
  run.align(call, threads);
  return {paths, states, scores, total};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(lisa_C, m) {
  m.def(
      "ctc_align_fwd(Tensor logits, Tensor targets, Tensor logit_lengths, Tensor target_lengths, Tensor? log_priors,"
      " int blank, int? star, float star_penalty, int? band)"
      " -> (Tensor paths, Tensor states, Tensor scores, Tensor total)");
}
TORCH_LIBRARY_IMPL(lisa_C, CPU, m) { m.impl("ctc_align_fwd", &align); }
