// at::Tensor -> parameters of ctc_align, and the choice of the capability's build.  Light ATen headers only.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <optional>

#include "../../core/capability.h"
#include "ctc_align_bind.h"

namespace {
constexpr lisa::CtcCaller kCaller{"ctc_align", ""};

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

auto align(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& logit_lengths,
           const at::Tensor& target_lengths, const std::optional<at::Tensor>& log_priors, int64_t blank,
           std::optional<int64_t> star, double star_penalty, std::optional<int64_t> band) {
  lisa::CtcAlign call{};
  set_inputs(call, logits, targets, target_lengths, blank, star, kCaller);
  call.logit_lengths = lengths_of(logit_lengths, "logit_lengths", logits, kCaller);
  call.log_priors = log_priors_of(log_priors, logits, kCaller);
  const lisa::CtcAlignOutputs outputs(call, call, logits, band, star_penalty);
  const lisa::CtcPlaces places(call);
  call.target_offsets = places.offsets.data(), call.target_ends = places.ends.data();

  const Kernels run = kernels();
  const int threads = at::get_num_threads();
  const lisa::Scratch scratch(run.scratch_bytes(call, threads), logits);
  call.scratch = scratch.data;
  run.align(call, threads);
  return outputs.tensors();
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(lisa_C, m) {
  m.def(
      "ctc_align_fwd(Tensor logits, Tensor targets, Tensor logit_lengths, Tensor target_lengths, Tensor? log_priors,"
      " int blank, int? star, float star_penalty, int? band)"
      " -> (Tensor paths, Tensor states, Tensor scores, Tensor total)");
}
TORCH_LIBRARY_IMPL(lisa_C, CPU, m) { m.impl("ctc_align_fwd", &align); }
