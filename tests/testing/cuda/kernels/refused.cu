// Everything the host does not model; each construct must be named by the compiler.
#include <cooperative_groups.h>
#include <cuda.h>
#include <cuda_awbarrier_primitives.h>
#include <cuda_runtime.h>
#include <mma.h>
#include <thrust/sort.h>
#include <cub/cub.cuh>
#include <cuda/pipeline>
#include <cute/tensor.hpp>

__global__ void asm_kernel(int* output) { asm volatile("mov.u32 %0, %laneid;" : "=r"(output[0])); }
#define LANE(x) __asm__("mov.u32 %0, %laneid;" : "=r"(x))
__global__ void asm_macro_kernel(int* output) { LANE(output[0]); }
__global__ void texture_kernel(cudaTextureObject_t texture, float* output) {
  output[0] = tex1Dfetch<float>(texture, 0);
}
__global__ void named_barrier_kernel() { __barrier_sync(1); }
__global__ void counted_barrier_kernel() { __barrier_sync_count(1, 64); }
__global__ void active_mask_kernel(unsigned* output) { output[0] = __activemask(); }
__global__ void clock_kernel(long long* output) { output[0] = clock64(); }
__global__ void __cluster_dims__(2, 1, 1) cluster_kernel() {}
__global__ void initialised_kernel() { __shared__ int value = 3; }
__global__ void address_kernel(unsigned* output, void* pointer) { output[0] = __cvta_generic_to_shared(pointer); }
void cooperative() { cudaLaunchCooperativeKernel(nullptr, 1, 1, nullptr); }
void timed(cudaEvent_t a, cudaEvent_t b, float* ms) { cudaEventElapsedTime(ms, a, b); }
__global__ void pipeline_kernel() {
  __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, 2> state;
  nvcuda::experimental::pipeline old_pipeline;
}
#if __CUDA_ARCH__ >= 800
#endif
