// Registers the CPU kernel, and chooses the capability's build.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "../../core/capability.h"
#include "ctc_greedy_decode_bind.h"

namespace {
auto kernel() {
  switch (lisa::cpu_capability()) {
#if defined(LISA_HAVE_X86)
    case lisa::Capability::kAvx512: return &lisa::avx512::ctc_greedy_decode;
    case lisa::Capability::kAvx2: return &lisa::avx2::ctc_greedy_decode;
#endif
    default: return &lisa::baseline::ctc_greedy_decode;
  }
}

auto forward(const at::Tensor& logits, const at::Tensor& logit_lengths, int64_t blank) {
  const lisa::CtcGreedyDecodeCall call(logits, logit_lengths, blank);
  kernel()(call.p, at::get_num_threads());
  return call.outputs();
}
}  // namespace

TORCH_LIBRARY_FRAGMENT(lisa_C, m) {
  m.def(
      "ctc_greedy_decode_fwd(Tensor logits, Tensor logit_lengths, int blank)"
      " -> (Tensor ids, Tensor lengths, Tensor starts, Tensor ends, Tensor scores)");
}
TORCH_LIBRARY_IMPL(lisa_C, CPU, m) { m.impl("ctc_greedy_decode_fwd", &forward); }
