// The kernels of a library by name, and the C functions through which Python and driver.cpp run them.
#pragma once
#include <map>
#include <string>

#include "block.h"
#include "launch.h"
#include "runtime.h"

namespace lisa_host {

// One letter and the size: p pointer, b bool, i and u integers, f float or double, h half, g bfloat16, s anything else.
// A pointer is followed by what it points to, `v` for void.
template <class T>
std::string type_code() {
  using Plain = std::remove_cv_t<T>;
  const auto sized = [](char letter) { return letter + std::to_string(sizeof(Plain)); };
  if constexpr (std::is_pointer_v<Plain>) {
    if constexpr (std::is_void_v<std::remove_pointer_t<Plain>>)
      return "pv";
    else
      return "p" + type_code<std::remove_pointer_t<Plain>>();
  } else if constexpr (std::is_same_v<Plain, bool>)
    return sized('b');
  else if constexpr (std::is_same_v<Plain, __half>)
    return sized('h');
  else if constexpr (std::is_same_v<Plain, __nv_bfloat16>)
    return sized('g');
  else if constexpr (std::is_floating_point_v<Plain>)
    return sized('f');
  else if constexpr (std::is_enum_v<Plain> || std::is_integral_v<Plain>) {
    if constexpr (std::is_enum_v<Plain>)
      return sized('i');
    else
      return sized(std::is_signed_v<Plain> ? 'i' : 'u');
  } else
    return sized('s');
}

struct Export {
  Launch launch;
  std::string signature;  // type codes, separated by spaces
};

inline std::map<std::string, Export>& exports() {
  static std::map<std::string, Export> all;  // filled by initialisers of several files, in any order
  return all;
}

template <class... Parameters>
bool export_kernel(const char* name, void (*kernel)(Parameters...)) {
  std::string signature;
  ((signature += (signature.empty() ? "" : " ") + type_code<Parameters>()), ...);
  const auto other = exports().find(name);
  const bool taken = other != exports().end() && other->second.launch.function != reinterpret_cast<void (*)()>(kernel);
  if (taken) signature = "ambiguous";
  exports()[name] = {KernelType<Parameters...>::launch(name, kernel), signature};
  return true;
}

}  // namespace lisa_host

#define LISA_HOST_JOIN_(a, b) a##b
#define LISA_HOST_JOIN(a, b) LISA_HOST_JOIN_(a, b)
// Written by the translator behind each kernel, and at the end of the file for instantiations that were asked for.
#define LISA_HOST_EXPORT(...)                                                           \
  [[maybe_unused]] static const bool LISA_HOST_JOIN(lisa_host_exported_, __COUNTER__) = \
      ::lisa_host::export_kernel(#__VA_ARGS__, __VA_ARGS__);

// Returns the names of the kernels, each with a tab and its signature, one in a line.
LISA_HOST_API const char* lisa_host_kernels() {
  static std::string text;
  text.clear();
  for (const auto& [name, kernel] : ::lisa_host::exports()) text += name + "\t" + kernel.signature + "\n";
  return text.c_str();
}

LISA_HOST_API void lisa_host_set(uint64_t seed, int32_t threads) {
  ::lisa_host::state.seed = seed;
  ::lisa_host::state.threads = threads;
}

// Null: the executor of this folder.
LISA_HOST_API void lisa_host_execute_with(::lisa_host::Executor executor) {
  ::lisa_host::state.executor = executor ? executor : ::lisa_host::run_on_fibers;
}

// Returns 0, or 1 if there is no such kernel.  `shape`: grid, then block.
LISA_HOST_API int lisa_host_launch(const char* kernel, const uint32_t* shape, uint64_t shared_bytes,
                                   void* const* arguments) {
  using namespace lisa_host;
  const auto found = exports().find(kernel);
  if (found == exports().end()) return 1;
  Launch launch = found->second.launch;
  set_shape(launch, dim3(shape[0], shape[1], shape[2]), dim3(shape[3], shape[4], shape[5]), shared_bytes, nullptr);
  launch.arguments = arguments;
  // A caller without a launcher has nowhere to raise the limit.
  state.shared_limits[launch.function] = kMostSharedBytes;
  submit(launch);
  return 0;
}

// The thread that runs on this OS thread, for the reports of sanitizers.
LISA_HOST_API const char* lisa_host_running() {
  static thread_local std::string text;
  text = ::lisa_host::current ? ::lisa_host::describe(*::lisa_host::current) : "outside a kernel";
  return text.c_str();
}

// The latest fault since lisa_host_clear; empty if there was none.
LISA_HOST_API const char* lisa_host_fault_kind() { return ::lisa_host::state.fault.kind.c_str(); }
LISA_HOST_API const char* lisa_host_fault_message() { return ::lisa_host::state.fault.message.c_str(); }
LISA_HOST_API void lisa_host_clear() {
  ::lisa_host::state.fault = {};
  ::lisa_host::state.error = cudaSuccess;
}
