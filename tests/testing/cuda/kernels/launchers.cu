// Launchers as C++ calls them.
#include "launchers.h"

#include <cuda_runtime.h>

namespace {

template <class T, int FACTOR>
__global__ void scale_kernel(const ScaleParams p) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < p.count) static_cast<T*>(p.output)[i] = static_cast<const T*>(p.input)[i] * static_cast<T>(FACTOR);
}

__global__ void large_shared_kernel(float* output) {
  extern __shared__ float staged[];
  staged[threadIdx.x * 300] = 1.0f;
  output[threadIdx.x] = staged[threadIdx.x * 300];
}

__global__ void fault_kernel(int* done) {
  if (blockIdx.x == 0) __trap();
  *done = 1;
}
__global__ void after_kernel(int* done) { *done = 2; }

}  // namespace

cudaError_t launch_after_fault(int* done) {
  fault_kernel<<<1, 1>>>(done);
  after_kernel<<<0, 1>>>(done);
  after_kernel<<<1, 1>>>(done);
  return cudaGetLastError();
}

cudaError_t launch_scale(const ScaleParams& p, cudaStream_t stream) {
  const dim3 block(128), grid(static_cast<unsigned>((p.count + block.x - 1) / block.x));
  if (p.is_double)
    scale_kernel<double, 3><<<grid, block, 0, stream>>>(p);
  else
    scale_kernel<float, 3><<<grid, {128, 1, 1}, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_large_shared(float* output, bool raise_limit) {
  constexpr int kBytes = 64 * 300 * sizeof(float);
  if (raise_limit) {
    const cudaError_t error =
        cudaFuncSetAttribute(large_shared_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    if (error != cudaSuccess) return error;
  }
  large_shared_kernel<<<1, 64, kBytes>>>(output);
  return cudaGetLastError();
}
