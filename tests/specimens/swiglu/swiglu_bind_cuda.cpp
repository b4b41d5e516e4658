// at::Tensor -> parameters.  No c10/cuda: the stream comes from Python as an integer.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <tuple>

#include "../../../csrc/core/library.h"
#include "swiglu.h"

namespace {
void* stream_of(int64_t stream) { return reinterpret_cast<void*>(stream); }

void check(int error) { TORCH_CHECK(error == 0, "specimen_swiglu: the launch failed with CUDA error ", error, "."); }

at::Tensor forward(const at::Tensor& gate, const at::Tensor& up, int64_t stream) {
  auto out = at::empty_like(gate);
  check(swiglu_forward({gate.const_data_ptr<float>(), up.const_data_ptr<float>(), out.data_ptr<float>(), gate.numel()},
                       stream_of(stream)));
  return out;
}

std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& grad_out, const at::Tensor& gate, const at::Tensor& up,
                                            bool needs_gate, bool needs_up, int64_t stream) {
  auto grad_gate = needs_gate ? at::empty_like(gate) : at::empty({0}, gate.options());
  auto grad_up = needs_up ? at::empty_like(up) : at::empty({0}, up.options());
  check(swiglu_backward({grad_out.const_data_ptr<float>(), gate.const_data_ptr<float>(), up.const_data_ptr<float>(),
                         needs_gate ? grad_gate.data_ptr<float>() : nullptr,
                         needs_up ? grad_up.data_ptr<float>() : nullptr, gate.numel()},
                        stream_of(stream)));
  return {grad_gate, grad_up};
}
}  // namespace

TORCH_LIBRARY_FRAGMENT(LISA_CUDA_LIBRARY, m) {
  m.def("specimen_swiglu_fwd(Tensor gate, Tensor up, int stream) -> Tensor");
  m.def(
      "specimen_swiglu_bwd(Tensor grad_out, Tensor gate, Tensor up, bool needs_gate, bool needs_up, int stream)"
      " -> (Tensor, Tensor)");
}
TORCH_LIBRARY_IMPL(LISA_CUDA_LIBRARY, LISA_CUDA_KEY, m) {
  m.impl("specimen_swiglu_fwd", &forward);
  m.impl("specimen_swiglu_bwd", &backward);
}
