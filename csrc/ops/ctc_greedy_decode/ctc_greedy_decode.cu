// Greedy decoding on NVIDIA GPUs: a pass over the rows of logits, then a scan over the frames of each utterance.
// Nothing waits for the device, and no size depends on values there: calls can be captured in a CUDA graph.
#include "../../core/launch.cuh"
#include "ctc_greedy_decode.cuh"

namespace lisa::ctc_greedy_decode {
namespace {

template <typename In, int kThreads>
int launch_rows(const CtcGreedyDecode& p, cudaStream_t stream) {
  const int64_t rows = p.frames * p.batch, share = RowThreads<kThreads>::kRows;
  ctc_best_kernel<In, kThreads><<<static_cast<unsigned>((rows + share - 1) / share), kRowBlock, 0, stream>>>(p);
  return cudaGetLastError();
}

template <typename In>
int decode(const CtcGreedyDecode& p, cudaStream_t stream) {
  if (p.frames > 0) {
    const int error = p.classes > ctc::kMostClassesOfAWarp ? launch_rows<In, kRowBlock>(p, stream)
                                                           : launch_rows<In, kWarp>(p, stream);
    if (error) return error;
  }
  ctc_collapse_kernel<RealOf<In>><<<static_cast<unsigned>(p.batch), kCollapseThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace
}  // namespace lisa::ctc_greedy_decode

int lisa::ctc_greedy_decode_on_cuda(const CtcGreedyDecode& p, void* stream) {
  if (p.batch == 0) return cudaSuccess;
  const auto on = static_cast<cudaStream_t>(stream);
  return for_element(p.dtype, [&](auto element) { return ctc_greedy_decode::decode<decltype(element)>(p, on); });
}
