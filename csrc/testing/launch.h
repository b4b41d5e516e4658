// A launch as data, and the one door that every launch goes through.
#pragma once
#include <dlfcn.h>

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

inline void run_on_fibers(const Launch* launch);

struct State {
  Executor executor = run_on_fibers;
  uint64_t seed = 0;  // 0: threads and blocks in order
  int threads = 0;    // OS threads; 0: one for each CPU
  Fault fault;        // of the latest launch that had one
  cudaError_t error = cudaSuccess;
  std::map<void (*)(), uint64_t> shared_limits;  // of kernels that asked for more than kDefaultSharedBytes
  std::mutex running;                            // one launch at a time
};
inline State state;

// CUDA C++ Programming Guide, "Technical Specifications per Compute Capability", 9.0.
constexpr uint64_t kThreadsPerBlock = 1024, kBlockDepth = 64, kGridHeight = 65535, kGridWidth = 0x7fffffff;
constexpr uint64_t kDefaultSharedBytes = 48 << 10, kMostSharedBytes = 227 << 10;

inline void refuse_launch(const Launch& launch, cudaError_t error, const std::string& reason) {
  state.error = error;
  state.fault = {"launch refused", std::string("kernel ") + launch.kernel + ": " + reason};
}

// What the driver would refuse before anything runs.
inline bool launch_is_valid(const Launch& launch) {
  const uint32_t *grid = launch.grid, *block = launch.block;
  const dim3 blocks(grid[0], grid[1], grid[2]), threads(block[0], block[1], block[2]);
  const uint64_t count = uint64_t{threads.x} * threads.y * threads.z;
  if (count == 0 || count > kThreadsPerBlock || threads.z > kBlockDepth) {
    refuse_launch(launch, cudaErrorInvalidConfiguration,
                  "a block of " + coordinates(threads) + " threads; it takes 1 to 1024, at most 64 of them in z");
    return false;
  }
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0 || blocks.x > kGridWidth || blocks.y > kGridHeight ||
      blocks.z > kGridHeight) {
    refuse_launch(launch, cudaErrorInvalidConfiguration,
                  "a grid of " + coordinates(blocks) + " blocks; it takes at least 1, at most 65535 in y and in z");
    return false;
  }
  const auto raised = state.shared_limits.find(launch.function);
  const uint64_t limit = raised == state.shared_limits.end() ? kDefaultSharedBytes : raised->second;
  if (launch.shared_bytes > limit) {
    refuse_launch(launch, cudaErrorInvalidValue,
                  std::to_string(launch.shared_bytes) + " bytes of dynamic shared memory; its limit is " +
                      std::to_string(limit) +
                      ". Raise it by cudaFuncSetAttribute(kernel, "
                      "cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), to at most 227 KiB");
    return false;
  }
  return true;
}

inline void submit(const Launch& launch) {
  if (launch_is_valid(launch)) state.executor(&launch);
}

inline const char* symbol_of(void (*function)()) {
  Dl_info info;
  void* address = reinterpret_cast<void*>(function);
  return dladdr(address, &info) && info.dli_saddr == address ? info.dli_sname : nullptr;
}

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

inline void set_shape(Launch& launch, dim3 grid, dim3 block, uint64_t shared_bytes, void* stream) {
  const uint32_t blocks[] = {grid.x, grid.y, grid.z}, threads[] = {block.x, block.y, block.z};
  std::copy(blocks, blocks + 3, launch.grid);
  std::copy(threads, threads + 3, launch.block);
  launch.shared_bytes = shared_bytes;
  launch.stream = stream;
}

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
