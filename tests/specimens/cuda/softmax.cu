// Softmax of a row by one block: maximum, sum of exponentials, quotient.
#include <cuda_runtime.h>
#include <math_constants.h>

#include "specimens.h"

namespace lisa {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ float warp_max(float value) {
  for (int distance = 16; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

__device__ float warp_sum(float value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) softmax_kernel(const SoftmaxParams p) {
  __shared__ float warp_maxima[kWarps];
  __shared__ float warp_sums[kWarps];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const float* input = p.input + int64_t{blockIdx.x} * p.columns;
  float* output = p.output + int64_t{blockIdx.x} * p.columns;

  float row_max = -CUDART_INF_F;
  for (int i = threadIdx.x; i < p.columns; i += kThreads) row_max = fmaxf(row_max, input[i]);
  row_max = warp_max(row_max);
  if (lane == 0) warp_maxima[warp] = row_max;
  __syncthreads();
  for (int i = 0; i < kWarps; i++) row_max = fmaxf(row_max, warp_maxima[i]);

  float row_sum = 0.0f;
  for (int i = threadIdx.x; i < p.columns; i += kThreads) row_sum += expf(input[i] - row_max);
  row_sum = warp_sum(row_sum);
  if (lane == 0) warp_sums[warp] = row_sum;
  __syncthreads();
  row_sum = 0.0f;
  for (int i = 0; i < kWarps; i++) row_sum += warp_sums[i];

  for (int i = threadIdx.x; i < p.columns; i += kThreads) output[i] = expf(input[i] - row_max) / row_sum;
}

cudaError_t launch_softmax(const SoftmaxParams& p, cudaStream_t stream) {
  softmax_kernel<<<p.rows, kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace lisa
