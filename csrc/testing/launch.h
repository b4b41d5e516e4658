// A launch as data, and the one door that every launch goes through.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <type_traits>
#include <utility>

#include "fault.h"

namespace lisa_host {

// Plain C, because an executor may be a callback from another language.
struct Launch {
  const char* kernel;  // as written before <<<, or as asked for by name
  const char* symbol;  // mangled: the entry's name in PTX; null for a kernel with internal linkage
  uint32_t grid[3];
  uint32_t block[3];
  uint64_t shared_bytes;  // dynamic
  void* stream;
  int32_t parameter_count;
  const uint64_t* parameter_bytes;
  void* const* arguments;  // the address of each argument, as cuLaunchKernel takes them
  void (*function)();
  void (*invoke)(void (*function)(), void* const* arguments);  // runs one thread
};

using Executor = void (*)(const Launch*);

// The executor of this folder: block.h, run_on_fibers.cpp.
void run_on_fibers(const Launch* launch);

struct State {
  Executor executor = run_on_fibers;
  uint64_t seed = 0;  // 0: threads and blocks in order
  int threads = 0;    // OS threads; 0: one for each CPU
  int limit_s = 600;  // a launch that takes longer is a fault
  Fault fault;        // the first since lisa_host_clear
  cudaError_t error = cudaSuccess;
  std::map<void (*)(), uint64_t> shared_limits;  // of kernels that asked for more than kDefaultSharedBytes
  std::mutex running;                            // one launch at a time
};
extern State state;

// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability", 9.0.
constexpr uint64_t kThreadsPerBlock = 1024, kBlockDepth = 64, kGridHeight = 65535, kGridWidth = 0x7fffffff;
constexpr uint64_t kDefaultSharedBytes = 48 << 10, kMostSharedBytes = 227 << 10;

// Checks the launch as the driver would, and hands it to the executor.
void submit(const Launch& launch);
// The mangled name of a function; null if it has internal linkage.
const char* symbol_of(void (*function)());
void set_shape(Launch& launch, dim3 grid, dim3 block, uint64_t shared_bytes, void* stream);

// What must be known about a kernel to run it from the addresses of its arguments.
template <class... Parameters>
struct KernelType {
  static constexpr uint64_t bytes[] = {sizeof(Parameters)..., 0};

  static void invoke(void (*function)(), void* const* arguments) {
    call(reinterpret_cast<void (*)(Parameters...)>(function), arguments, std::index_sequence_for<Parameters...>{});
  }

  static Launch launch(const char* name, void (*kernel)(Parameters...)) {
    Launch made{};
    made.kernel = name;
    made.function = reinterpret_cast<void (*)()>(kernel);
    made.symbol = symbol_of(made.function);
    made.parameter_count = sizeof...(Parameters);
    made.parameter_bytes = bytes;
    made.invoke = invoke;
    return made;
  }

 private:
  template <size_t... I>
  static void call(void (*kernel)(Parameters...), [[maybe_unused]] void* const* arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<Parameters>*>(arguments[I])...);
  }
};

// `kernel<<<grid, block, shared_bytes, stream>>>(arguments)` becomes `configure("kernel", kernel, grid,
// ...)(arguments)`.
template <class... Parameters>
auto configure(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes = 0,
               cudaStream_t stream = nullptr) {
  Launch launch = KernelType<Parameters...>::launch(name, kernel);
  set_shape(launch, grid, block, shared_bytes, stream);
  return [launch](Parameters... arguments) mutable {
    void* addresses[] = {const_cast<void*>(static_cast<const volatile void*>(&arguments))..., nullptr};
    launch.arguments = addresses;
    submit(launch);
  };
}

}  // namespace lisa_host
