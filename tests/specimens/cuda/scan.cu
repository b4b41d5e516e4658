// Inclusive sums along a row by one block: within warps by shuffles, across warps through shared memory.
#include <cuda_runtime.h>

#include "specimens.h"

namespace lisa {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ int32_t warp_scan(int32_t value) {
  const int lane = threadIdx.x % 32;
  for (int distance = 1; distance < 32; distance *= 2) {
    const int32_t before = __shfl_up_sync(kAllLanes, value, distance);
    if (lane >= distance) value += before;
  }
  return value;
}

}  // namespace

// Dynamic shared memory: one int32 a warp.
extern "C" __global__ void __launch_bounds__(kThreads) scan_kernel(const ScanParams p) {
  extern __shared__ int32_t warp_totals[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int32_t* input = p.input + int64_t{blockIdx.x} * p.columns;
  int32_t* output = p.output + int64_t{blockIdx.x} * p.columns;

  int32_t before_tile = 0;
  for (int first = 0; first < p.columns; first += kThreads) {
    const int column = first + threadIdx.x;
    int32_t sum = warp_scan(column < p.columns ? input[column] : 0);
    if (lane == 31) warp_totals[warp] = sum;
    __syncthreads();
    sum += before_tile;
    for (int i = 0; i < kWarps; i++) {
      if (i < warp) sum += warp_totals[i];
      before_tile += warp_totals[i];
    }
    if (column < p.columns) output[column] = sum;
    // The next tile overwrites the totals.
    __syncthreads();
  }
}

cudaError_t launch_scan(const ScanParams& p, cudaStream_t stream) {
  scan_kernel<<<p.rows, kThreads, kWarps * sizeof(int32_t), stream>>>(p);
  return cudaGetLastError();
}

}  // namespace lisa
