// Turns pieces of a row round; the next piece is copied to shared memory while this one is written out.
#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>

#include "specimens.h"

namespace lisa {
namespace {

constexpr int kThreads = 64, kVector = 4, kPiece = kThreads * kVector;

// 16 bytes a thread; what lies beyond the row becomes 0.
__device__ void start_copy(float* piece, const float* row, int first, int columns) {
  const int column = first + threadIdx.x * kVector;
  const int valid = min(max(columns - column, 0), kVector);
  __pipeline_memcpy_async(piece + threadIdx.x * kVector, row + (valid > 0 ? column : 0), kVector * sizeof(float),
                          (kVector - valid) * sizeof(float));
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) flip_kernel(const FlipParams p) {
  __shared__ __align__(16) float pieces[2][kPiece];
  const float* input = p.input + int64_t{blockIdx.x} * p.columns;
  float* output = p.output + int64_t{blockIdx.x} * p.columns;

  start_copy(pieces[0], input, 0, p.columns);
  __pipeline_commit();
  for (int first = 0, current = 0; first < p.columns; first += kPiece, current ^= 1) {
    if (first + kPiece < p.columns) start_copy(pieces[current ^ 1], input, first + kPiece, p.columns);
    // Empty behind the last piece: then all but one group still means this piece.
    __pipeline_commit();
    __pipeline_wait_prior(1);
    __syncthreads();
    for (int i = threadIdx.x; i < kPiece && first + i < p.columns; i += kThreads)
      output[first + i] = pieces[current][kPiece - 1 - i];
    // The next round copies into this buffer.
    __syncthreads();
  }
}

cudaError_t launch_flip(const FlipParams& p, cudaStream_t stream) {
  flip_kernel<<<p.rows, kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace lisa
