// Registers the CUDA kernels.  No c10/cuda: the stream comes from Python as an integer.
#include <torch/library.h>

#include "../../core/library.h"
#include "ctc_greedy_decode_bind.h"

namespace {
auto forward(const at::Tensor& logits, const at::Tensor& logit_lengths, int64_t blank, int64_t stream) {
  const lisa::CtcGreedyDecodeCall call(logits, logit_lengths, blank);
  lisa::check_launch(lisa::ctc_greedy_decode_on_cuda(call.p, reinterpret_cast<void*>(stream)), "ctc_greedy_decode");
  return call.outputs();
}
}  // namespace

TORCH_LIBRARY_FRAGMENT(LISA_CUDA_LIBRARY, m) {
  m.def(
      "ctc_greedy_decode_cuda_fwd(Tensor logits, Tensor logit_lengths, int blank, int stream)"
      " -> (Tensor ids, Tensor lengths, Tensor starts, Tensor ends, Tensor scores)");
}
TORCH_LIBRARY_IMPL(LISA_CUDA_LIBRARY, LISA_CUDA_KEY, m) { m.impl("ctc_greedy_decode_cuda_fwd", &forward); }
