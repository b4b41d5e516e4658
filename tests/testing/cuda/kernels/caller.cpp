// A host program's part: C++ without CUDA's language, as a binding is.
#include "launchers.h"

extern "C" int scale_on_device(const double* input, double* output, int64_t count) {
  void *device_input = nullptr, *device_output = nullptr;
  cudaStream_t stream;
  const size_t bytes = count * sizeof(double);
  cudaMalloc(&device_input, bytes);
  cudaMalloc(&device_output, bytes);
  cudaStreamCreate(&stream);
  cudaMemcpyAsync(device_input, input, bytes, cudaMemcpyHostToDevice, stream);
  cudaError_t error = launch_scale({device_input, device_output, count, true}, stream);
  cudaMemcpyAsync(output, device_output, bytes, cudaMemcpyDeviceToHost, stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  cudaFree(device_input);
  cudaFree(device_output);
  cudaStreamDestroy(stream);
  return error;
}

extern "C" int scale_floats(const float* input, float* output, int64_t count) {
  return launch_scale({input, output, count, false}, nullptr);
}

extern "C" int use_large_shared(float* output, bool raise_limit) { return launch_large_shared(output, raise_limit); }

extern "C" int go_on_after_fault(int* done) { return launch_after_fault(done); }
