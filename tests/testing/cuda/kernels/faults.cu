// Kernels that are wrong on purpose, each in one way.
#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>

#include <cassert>
#include <cstdint>

constexpr unsigned kAllLanes = 0xffffffffu;

extern "C" __global__ void missing_barrier_kernel(const float* input, float* output) {
  __shared__ float staged[256];
  staged[threadIdx.x] = input[threadIdx.x];
  output[threadIdx.x] = staged[255 - threadIdx.x];
}

// Between the reads of one round and the writes of the next.
extern "C" __global__ void missing_second_barrier_kernel(const int* input, int* output) {
  __shared__ int staged[64];
  for (int round = 0; round < 4; round++) {
    staged[threadIdx.x] = input[round * 64 + threadIdx.x];
    __syncthreads();
    output[round * 64 + threadIdx.x] = staged[63 - threadIdx.x];
  }
}

extern "C" __global__ void missing_syncwarp_kernel(const int* input, int* output) {
  __shared__ int staged[32];
  staged[threadIdx.x] = input[threadIdx.x];
  output[threadIdx.x] = staged[31 - threadIdx.x];
}

extern "C" __global__ void wrong_mask_kernel(int* output) {
  output[threadIdx.x] = __shfl_sync(0x0000ffffu, static_cast<int>(threadIdx.x), 0);
}

extern "C" __global__ void divergent_warp_kernel(int* output) {
  if (threadIdx.x < 16)
    output[threadIdx.x] = __any_sync(kAllLanes, 1);
  else
    output[threadIdx.x] = __shfl_sync(kAllLanes, 1, 0);
}

extern "C" __global__ void divergent_barrier_kernel(int* output) {
  if (threadIdx.x < 32) {
    __syncthreads();
    output[threadIdx.x] = 1;
  } else {
    __syncthreads();
    output[threadIdx.x] = 2;
  }
}

extern "C" __global__ void early_exit_kernel(int* output, int first, int end) {
  __shared__ int staged[64];
  const int i = threadIdx.x;
  if (i < first || i >= end) return;
  staged[i] = i;
  const int present = __syncthreads_count(1);
  output[i] = 100 * present + staged[first + end - 1 - i];
}

// The barriers of those that stay are two.
extern "C" __global__ void early_exit_then_divergent_kernel(int* output) {
  if (threadIdx.x < 8) return;
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  output[threadIdx.x] = 1;
}

extern "C" __global__ void deadlock_kernel(int* output) {
  if (threadIdx.x < 16)
    __syncwarp();
  else
    __syncthreads();
  output[threadIdx.x] = 1;
}

extern "C" __global__ void endless_poll_kernel(volatile int* flag) {
  while (*flag == 0) __nanosleep(100);
}

extern "C" __global__ void endless_loop_kernel(volatile int* flag) {
  while (*flag == 0) {
  }
}

extern "C" __global__ void over_read_kernel(const float* input, float* output, int count) {
  const int i = threadIdx.x;
  if (i <= count) output[0] += input[i];
}

extern "C" __global__ void over_write_kernel(float* output, int count) {
  if (threadIdx.x <= count) output[threadIdx.x] = 1.0f;
}

extern "C" __global__ void store_kernel(float* output, int64_t index) {
  if (blockIdx.x == gridDim.x / 2 && threadIdx.x == 5) output[index] = 1.0f;
}

extern "C" __global__ void shared_over_write_kernel(float* output, int count) {
  __shared__ float staged[32];
  __shared__ float other[32];
  other[threadIdx.x] = 2.0f;
  staged[threadIdx.x + count] = 1.0f;
  __syncthreads();
  output[threadIdx.x] = staged[threadIdx.x] + other[threadIdx.x];
}

extern "C" __global__ void wild_pointer_kernel(float* output) { output[threadIdx.x] = 1.0f; }

extern "C" __global__ void uninitialised_shared_kernel(float* output, bool write) {
  __shared__ float staged[32];
  if (write) staged[threadIdx.x] = 1.0f;
  __syncthreads();
  output[blockIdx.x * 32 + threadIdx.x] = staged[threadIdx.x];
}

extern "C" __global__ void uninitialised_dynamic_kernel(float* output) {
  extern __shared__ float dynamic[];
  output[threadIdx.x] = dynamic[threadIdx.x];
}

extern "C" __global__ void dynamic_over_read_kernel(float* output, int offset) {
  extern __shared__ float dynamic[];
  dynamic[threadIdx.x] = 1.0f;
  __syncthreads();
  output[threadIdx.x] = dynamic[threadIdx.x + offset];
}

// Reads what a copy brings without waiting for it.
extern "C" __global__ void early_read_kernel(const float* input, float* output, int pending) {
  __shared__ float staged[32];
  __pipeline_memcpy_async(staged + threadIdx.x, input + threadIdx.x, sizeof(float));
  __pipeline_commit();
  __pipeline_wait_prior(pending);
  __syncthreads();
  output[threadIdx.x] = staged[threadIdx.x];
}

extern "C" __global__ void misaligned_copy_kernel(const float* input, float* output) {
  __shared__ __align__(16) float staged[64];
  __pipeline_memcpy_async(staged, input + 1, 16);
  __pipeline_commit();
  __pipeline_wait_prior(0);
  output[0] = staged[0];
}

extern "C" __global__ void inactive_source_kernel(float* output) {
  if (threadIdx.x < 16) output[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 20);
}

extern "C" __global__ void __launch_bounds__(64) bounded_kernel(int* output) { output[threadIdx.x] = 1; }

extern "C" __global__ void shift_kernel(int* output, int distance) { output[0] = 1 << distance; }

extern "C" __global__ void overflow_kernel(int* output, int value) { output[0] = value + 1; }

extern "C" __global__ void division_kernel(int* output, int divisor) { output[0] = 7 / divisor; }

extern "C" __global__ void assertion_kernel(int limit) { assert(threadIdx.x < limit); }

extern "C" __global__ void trap_kernel() {
  if (threadIdx.x == 3) __trap();
}

__device__ int descend(int depth) {
  volatile int frame[64];
  frame[depth % 64] = depth;
  return depth == 0 ? 0 : descend(depth - 1) + frame[depth % 64];
}
extern "C" __global__ void recursion_kernel(int* output, int depth) { output[0] = descend(depth); }
