// What launchers of CUDA kernels share.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "dtype.h"

namespace lisa {

// Cuts pieces off a block of memory; without a block it only counts.
struct Arena {
  char* memory;
  int64_t used = 0;

  void* take(int64_t bytes) {
    char* piece = memory + used;
    used += (bytes + 63) / 64 * 64;
    return memory ? piece : nullptr;
  }
};

// `run` with a value of the element type; returns its cudaError_t.
template <typename Run>
int for_element(Dtype dtype, Run run) {
  switch (dtype) {
    case Dtype::kFloat32: return run(float{});
    case Dtype::kFloat64: return run(double{});
    case Dtype::kBFloat16: return run(__nv_bfloat16{});
    case Dtype::kFloat16: return run(__half{});
  }
  return cudaErrorInvalidValue;
}

}  // namespace lisa
