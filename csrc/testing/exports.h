// The kernels of a library by name; exports.cpp has the C functions through which Python and driver.cpp run them.
#pragma once
#include <string>

#include "keywords.h"
#include "launch.h"

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

void add_export(const Launch& launch, const std::string& signature);

template <class... Parameters>
bool export_kernel(const char* name, void (*kernel)(Parameters...)) {
  std::string signature;
  ((signature += (signature.empty() ? "" : " ") + type_code<Parameters>()), ...);
  add_export(KernelType<Parameters...>::launch(name, kernel), signature);
  return true;
}

}  // namespace lisa_host

#define LISA_HOST_JOIN_(a, b) a##b
#define LISA_HOST_JOIN(a, b) LISA_HOST_JOIN_(a, b)
// Written by the translator behind each kernel, and at the end of the file for instantiations that were asked for.
#define LISA_HOST_EXPORT(...)                                                           \
  [[maybe_unused]] static const bool LISA_HOST_JOIN(lisa_host_exported_, __COUNTER__) = \
      ::lisa_host::export_kernel(#__VA_ARGS__, __VA_ARGS__);
