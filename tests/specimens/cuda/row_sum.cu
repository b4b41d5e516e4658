// Sum of a row by one warp: no shared memory, no barrier.
#include <cuda_runtime.h>

#include "specimens.h"

namespace lisa {
namespace {
constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr unsigned kAllLanes = 0xffffffffu;
}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) row_sum_kernel(const RowSumParams p) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (row >= p.rows) return;

  float sum = 0.0f;
  for (int column = lane; column < p.columns; column += 32) sum += p.input[row * p.columns + column];
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_down_sync(kAllLanes, sum, distance);

  if (lane == 0) p.output[row] = sum;
}

cudaError_t launch_row_sum(const RowSumParams& p, cudaStream_t stream) {
  row_sum_kernel<<<(p.rows + kWarps - 1) / kWarps, kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace lisa
