// Kernels whose results are known: each uses one part of the language.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace lisa {

constexpr unsigned kAllLanes = 0xffffffffu;

// Sums of `count` numbers by blocks of THREADS, added up in `total`.
template <int THREADS>
__global__ void __launch_bounds__(THREADS) sum_kernel(const float* __restrict__ input, float* total, int count) {
  __shared__ float partial[THREADS / 32];
  float sum = 0.0f;
  for (int i = blockIdx.x * THREADS + threadIdx.x; i < count; i += gridDim.x * THREADS) sum += __ldg(input + i);
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAllLanes, sum, distance);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int warp = 1; warp < THREADS / 32; warp++) sum += partial[warp];
    atomicAdd(total, sum);
  }
}

__global__ void histogram_kernel(const uint8_t* input, unsigned* counts, int count) {
  __shared__ unsigned block_counts[256];
  block_counts[threadIdx.x] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    atomicAdd(&block_counts[input[i]], 1u);
  __syncthreads();
  atomicAdd(&counts[threadIdx.x], block_counts[threadIdx.x]);
}

// Doubles in half precision, and sums of both types by atomics.
__global__ void halves_kernel(const __nv_bfloat16* input, __half* doubled, __half* half_sum, __nv_bfloat16* bfloat_sum,
                              int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float value = __bfloat162float(input[i]);
  doubled[i] = __float2half(2.0f * value);
  atomicAdd(half_sum, __float2half(value));
  atomicAdd(bfloat_sum, input[i]);
}

// Sums of vectors by atomics, of (1, 2) or (1, 2, 3, 4) for each thread; `found` is what each found.
__global__ void vector_sums_kernel(__half2* halves, __nv_bfloat162* bfloats, float2* pairs, float4* quads,
                                   float2* found) {
  atomicAdd(halves, __floats2half2_rn(1.0f, 2.0f));
  atomicAdd(bfloats, __floats2bfloat162_rn(1.0f, 2.0f));
  atomicAdd(quads, make_float4(1.0f, 2.0f, 3.0f, 4.0f));
  found[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(pairs, make_float2(1.0f, 2.0f));
}

// One warp; a row of `results` for each operation.
__global__ void votes_kernel(const int* input, unsigned* results) {
  const int lane = threadIdx.x, value = input[lane];
  int all_equal;
  results[0 * 32 + lane] = __ballot_sync(kAllLanes, value & 1);
  results[1 * 32 + lane] = __match_any_sync(kAllLanes, value);
  results[2 * 32 + lane] = __match_all_sync(kAllLanes, value, &all_equal) | all_equal;
  results[3 * 32 + lane] = __any_sync(kAllLanes, value == 3);
  results[4 * 32 + lane] = __all_sync(kAllLanes, value >= 0);
  results[5 * 32 + lane] = __reduce_add_sync(kAllLanes, value);
  results[6 * 32 + lane] = __reduce_max_sync(kAllLanes, value);
  results[7 * 32 + lane] = __shfl_up_sync(kAllLanes, value, 1, 8);
  results[8 * 32 + lane] = __shfl_down_sync(kAllLanes, value, 1, 8);
  results[9 * 32 + lane] = __shfl_sync(kAllLanes, value, 5, 16);
  // Two halves of the warp, each by itself.
  const unsigned half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  results[10 * 32 + lane] = __ballot_sync(half, 1);
}

__global__ void barriers_kernel(const int* input, int* results) {
  const int value = input[threadIdx.x];
  results[threadIdx.x] = __syncthreads_count(value > 0);
  results[blockDim.x + threadIdx.x] = __syncthreads_and(value > 0);
  results[2 * blockDim.x + threadIdx.x] = __syncthreads_or(value > 0);
}

__constant__ float scales[2] = {2.0f, 3.0f};
__device__ int launches = 0;

// Three dimensions of threads and blocks, constants, device variables.
__global__ void places_kernel(float* output) {
  const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  output[block * blockDim.x * blockDim.y * blockDim.z + thread] = scales[threadIdx.x % 2] * blockIdx.x;
  if (block == 0 && thread == 0) launches++;
}

// Numbers of all kinds by value; `extent` is shared memory given at the launch.
__global__ void numbers_kernel(double* output, bool flag, int8_t small, uint32_t large, float single, double both,
                               __half half, int64_t wide) {
  extern __shared__ __align__(16) double staged[];
  if (threadIdx.x == 0) {
    staged[0] = flag, staged[1] = small, staged[2] = large, staged[3] = single;
    staged[4] = both, staged[5] = __half2float(half), staged[6] = static_cast<double>(wide);
  }
  __syncthreads();
  output[threadIdx.x] = staged[threadIdx.x];
}

__global__ void count_kernel(int* total, int rounds) {
  for (int round = 0; round < rounds; round++) atomicAdd(total, 1);
}

// In which order threads come by.  No atomic: it would let others run in between.
__global__ void arrivals_kernel(int* next, int* arrivals) {
  arrivals[(*next)++] = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

// Two numbers at a time, 16 bytes at a load; 8 in a thread.
__global__ void vectors_kernel(const __nv_bfloat16* input, __half* output, float* maxima) {
  const uint4 packed = *reinterpret_cast<const uint4*>(input + 8 * threadIdx.x);
  const unsigned words[4] = {packed.x, packed.y, packed.z, packed.w};
  float largest = -INFINITY;
  for (int i = 0; i < 4; i++) {
    const __nv_bfloat162 pair = *reinterpret_cast<const __nv_bfloat162*>(&words[i]);
    const float2 both = __bfloat1622float2(pair);
    largest = max(largest, max(both.x, both.y));
    const __half2 halves = __hmul2(__floats2half2_rn(both.x, both.y), __float2half2_rn(2.0f));
    reinterpret_cast<__half2*>(output + 8 * threadIdx.x)[i] = __hfma2(halves, halves, halves);
  }
  maxima[threadIdx.x] = isnan(largest) ? 0.0f : largest;
}

// Exchanges by a lock: each thread adds once.
__global__ void lock_kernel(int* lock, volatile int* count) {
  while (atomicCAS(lock, 0, 1) != 0) {
  }
  __threadfence();
  *count = *count + 1;
  __threadfence();
  atomicExch(lock, 0);
}

}  // namespace lisa
