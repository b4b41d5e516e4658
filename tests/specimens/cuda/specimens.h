// Parameters and launchers of the CUDA specimens: small kernels that the proving ground is tried on.  No torch header.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

namespace lisa {

// c = a b, row-major, contiguous.
struct MatmulParams {
  const float* a;  // [M, K]
  const float* b;  // [K, N]
  float* c;        // [M, N]
  int32_t M, N, K;
};

// softmax over the columns of each row.
struct SoftmaxParams {
  const float* input;  // [rows, columns]
  float* output;       // [rows, columns]
  int32_t rows, columns;
};

// Inclusive sums along each row.
struct ScanParams {
  const int32_t* input;  // [rows, columns]
  int32_t* output;       // [rows, columns]
  int32_t rows, columns;
};

// The sum of each row.
struct RowSumParams {
  const float* input;  // [rows, columns]
  float* output;       // [rows]
  int32_t rows, columns;
};

// Each row in pieces of 256, every piece turned round; the last one is filled up with 0.
struct FlipParams {
  const float* input;  // [rows, columns], 16-byte aligned, columns a multiple of 4
  float* output;       // [rows, columns]
  int32_t rows, columns;
};

cudaError_t launch_matmul(const MatmulParams& p, cudaStream_t stream);
cudaError_t launch_softmax(const SoftmaxParams& p, cudaStream_t stream);
cudaError_t launch_scan(const ScanParams& p, cudaStream_t stream);
cudaError_t launch_row_sum(const RowSumParams& p, cudaStream_t stream);
cudaError_t launch_flip(const FlipParams& p, cudaStream_t stream);

}  // namespace lisa
