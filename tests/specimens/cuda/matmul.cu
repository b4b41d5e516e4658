// Matrix product through tiles in shared memory, one output element a thread.
#include <cuda_runtime.h>

#include "specimens.h"

namespace lisa {
namespace {
constexpr int kTile = 16;
}

extern "C" __global__ void __launch_bounds__(kTile* kTile) matmul_kernel(const MatmulParams p) {
  __shared__ float a_tile[kTile][kTile];
  __shared__ float b_tile[kTile][kTile];
  const int row = blockIdx.y * kTile + threadIdx.y, column = blockIdx.x * kTile + threadIdx.x;

  float sum = 0.0f;
  for (int first = 0; first < p.K; first += kTile) {
    const int a_column = first + threadIdx.x, b_row = first + threadIdx.y;
    a_tile[threadIdx.y][threadIdx.x] = row < p.M && a_column < p.K ? p.a[int64_t{row} * p.K + a_column] : 0.0f;
    b_tile[threadIdx.y][threadIdx.x] = b_row < p.K && column < p.N ? p.b[int64_t{b_row} * p.N + column] : 0.0f;
    __syncthreads();
    for (int k = 0; k < kTile; k++) sum += a_tile[threadIdx.y][k] * b_tile[k][threadIdx.x];
    __syncthreads();
  }

  if (row < p.M && column < p.N) p.c[int64_t{row} * p.N + column] = sum;
}

cudaError_t launch_matmul(const MatmulParams& p, cudaStream_t stream) {
  const dim3 grid((p.N + kTile - 1) / kTile, (p.M + kTile - 1) / kTile), block(kTile, kTile);
  matmul_kernel<<<grid, block, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace lisa
