#include <cuda_runtime.h>

#include "swiglu.h"

namespace {
constexpr int kThreads = 128;

__device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__global__ void __launch_bounds__(kThreads) swiglu_fwd_kernel(SwigluForward call) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= call.count) return;
  call.out[i] = call.gate[i] * sigmoid(call.gate[i]) * call.up[i];
}

__global__ void __launch_bounds__(kThreads) swiglu_bwd_kernel(SwigluBackward call) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= call.count) return;
  const float gate = call.gate[i], share = sigmoid(gate);
  if (call.grad_gate) call.grad_gate[i] = call.grad_out[i] * call.up[i] * share * (1.0f + gate * (1.0f - share));
  if (call.grad_up) call.grad_up[i] = call.grad_out[i] * gate * share;
}

unsigned blocks(int64_t count) { return static_cast<unsigned>((count + kThreads - 1) / kThreads); }
}  // namespace

int swiglu_forward(const SwigluForward& call, void* stream) {
  if (call.count == 0) return cudaSuccess;
  swiglu_fwd_kernel<<<blocks(call.count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(call);
  return cudaGetLastError();
}

int swiglu_backward(const SwigluBackward& call, void* stream) {
  if (call.count == 0) return cudaSuccess;
  swiglu_bwd_kernel<<<blocks(call.count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(call);
  return cudaGetLastError();
}
