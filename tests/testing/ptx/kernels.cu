// Kernels that reach what nvcc compiles to, for the emulator's tests.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>

#include <cassert>
#include <cstdint>
#include <cstdio>

__constant__ float coefficients[4] = {1.0f, 0.5f, 0.25f, 0.125f};
__device__ unsigned blocks_done;
__device__ unsigned ticket_table[3] = {7, 11, 13};

// Sum of all: shuffles, shared memory, then the last block adds the partial sums up.
extern "C" __global__ void __launch_bounds__(128) last_block_sum(const float* x, float* partial, float* out, int n) {
  __shared__ float warp_sums[4];
  __shared__ bool is_last;
  float sum = 0.0f;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
  for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = warp_sums[0] + warp_sums[1] + warp_sums[2] + warp_sums[3];
#ifndef WITHOUT_FENCE
    __threadfence();
#endif
    is_last = atomicAdd(&blocks_done, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (is_last && threadIdx.x == 0) {
    float total = 0.0f;
    for (unsigned i = 0; i < gridDim.x; i++) total += partial[i];
    *out = total;
  }
}

extern "C" __global__ void histogram(const uint8_t* x, unsigned* counts, int n) {
  __shared__ unsigned local[256];
  local[threadIdx.x] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[x[i]], 1u);
  __syncthreads();
  atomicAdd(&counts[threadIdx.x], local[threadIdx.x]);
}

extern "C" __global__ void halves(const __nv_bfloat16* x, __half* out, __nv_bfloat162* doubled, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = __hfma(__float2half(__bfloat162float(x[i])), __float2half(2.0f), __float2half(0.5f));
  if (i < n / 2) {
    const auto pair = reinterpret_cast<const __nv_bfloat162*>(x)[i];
    doubled[i] = __hadd2(pair, pair);
  }
}

// Arrays indexed at run time live in local memory; the polynomial's coefficients in constant memory.
extern "C" __global__ void local_array(const int* order, float* out) {
  float powers[8];
  float value = 1.0f;
  for (int i = 0; i < 8; i++) {
    powers[i] = value;
    value *= 1.5f;
  }
  out[threadIdx.x] = powers[order[threadIdx.x] & 7] * coefficients[threadIdx.x & 3];
}

__device__ __noinline__ int64_t divide(int64_t a, int64_t b) { return a / b + a % b; }

extern "C" __global__ void integers(const int64_t* a, const int64_t* b, int64_t* out) {
  int i = threadIdx.x;
  out[i] = divide(a[i], b[i]) + __popcll(a[i]) + __clzll(b[i]) + __mul64hi(a[i], b[i]) + ticket_table[i % 3];
}

extern "C" __global__ void functions(const float* x, float* out, double* wide) {
  int i = threadIdx.x;
  out[i] = sinf(x[i] * 1e8f) + expf(x[i]) + logf(x[i] + 1.0f) + powf(x[i], 2.5f) + erff(x[i]) + tanhf(x[i]);
  wide[i] = exp((double)x[i]) / sqrt((double)x[i] + 1.0);
}

extern "C" __global__ void copies(const float4* x, float4* out) {
  extern __shared__ float4 staged[];
  __pipeline_memcpy_async(&staged[threadIdx.x], &x[threadIdx.x], sizeof(float4));
  __pipeline_commit();
#ifndef WITHOUT_WAIT
  __pipeline_wait_prior(0);
#endif
#ifndef WITHOUT_BARRIER
  __syncthreads();
#endif
  out[threadIdx.x] = staged[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void speaks(const int* x) {
  if (threadIdx.x == 0) printf("block %d has %d of %s, %.1f\n", blockIdx.x, x[0], "text", 0.5);
  assert(x[threadIdx.x] < 100);
}

extern "C" __global__ void off_by_one(const float* x, float* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) out[i] = x[i];
}

extern "C" __global__ void divergent_barrier(float* out) {
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = 1.0f;
  // Threads that ended would not be waited for.
  __syncthreads();
}

extern "C" __global__ void wrong_mask(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
  __syncthreads();
}
