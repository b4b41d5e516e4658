// The CUDA runtime as far as launchers need it: device memory is host memory, streams run at once.
#pragma once
#include <cstdlib>

#include "fault.h"
#include "launch.h"

// Emitted into every library even if this file does not call it; another source of the library may.
#define LISA_HOST_API extern "C" __attribute__((used)) inline

LISA_HOST_API cudaError_t cudaMalloc(void** memory, size_t bytes) {
  constexpr size_t kAlignment = 256;
  if (posix_memalign(memory, kAlignment, bytes ? bytes : 1)) return cudaErrorMemoryAllocation;
  std::memset(*memory, ::lisa_host::kPoison, bytes);
  return cudaSuccess;
}
LISA_HOST_API cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) {
  return cudaMalloc(memory, bytes);
}
LISA_HOST_API cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
LISA_HOST_API cudaError_t cudaFreeAsync(void* memory, cudaStream_t) { return cudaFree(memory); }
LISA_HOST_API cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
LISA_HOST_API cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  return cudaMemset(memory, value, bytes);
}
LISA_HOST_API cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
LISA_HOST_API cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}
LISA_HOST_API cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = reinterpret_cast<cudaStream_t>(std::malloc(1));
  return cudaSuccess;
}
LISA_HOST_API cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::free(stream);
  return cudaSuccess;
}
LISA_HOST_API cudaError_t cudaStreamSynchronize(cudaStream_t) { return ::lisa_host::state.error; }
LISA_HOST_API cudaError_t cudaDeviceSynchronize() { return ::lisa_host::state.error; }
LISA_HOST_API cudaError_t cudaPeekAtLastError() { return ::lisa_host::state.error; }
LISA_HOST_API cudaError_t cudaGetLastError() { return std::exchange(::lisa_host::state.error, cudaSuccess); }
LISA_HOST_API const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : ::lisa_host::state.fault.message.c_str();
}
LISA_HOST_API cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
LISA_HOST_API cudaError_t cudaSetDevice(int) { return cudaSuccess; }

template <class T>
cudaError_t cudaMalloc(T** memory, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(memory), bytes);
}
template <class T>
cudaError_t cudaMemcpyToSymbol(T& symbol, const void* from, size_t bytes, size_t offset = 0,
                               cudaMemcpyKind = cudaMemcpyHostToDevice) {
  std::memcpy(reinterpret_cast<char*>(&symbol) + offset, from, bytes);
  return cudaSuccess;
}
template <class T>
cudaError_t cudaMemcpyFromSymbol(void* to, const T& symbol, size_t bytes, size_t offset = 0,
                                 cudaMemcpyKind = cudaMemcpyDeviceToHost) {
  std::memcpy(to, reinterpret_cast<const char*>(&symbol) + offset, bytes);
  return cudaSuccess;
}
template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<uint64_t>(value) > ::lisa_host::kMostSharedBytes) return cudaErrorInvalidValue;
  ::lisa_host::state.shared_limits[reinterpret_cast<void (*)()>(kernel)] = value;
  return cudaSuccess;
}
