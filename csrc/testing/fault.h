// What went wrong in a launch, and how a thread of the kernel reports it.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <source_location>
#include <string>

namespace lisa_host {

using Location = std::source_location;

// `kind` is one of the names in lisa_kernels/testing/cuda/faults.py.
struct Fault {
  std::string kind;
  std::string message;
};

inline std::string place(const Location& location) {
  return std::string(location.file_name()) + ":" + std::to_string(location.line());
}

template <class Triple>
std::string coordinates(const Triple& at) {
  return "(" + std::to_string(at.x) + ", " + std::to_string(at.y) + ", " + std::to_string(at.z) + ")";
}

inline std::string hexadecimal(uint32_t mask) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

// Ends the running thread and, through its block, the launch.  Called from device code only; see block.cpp.
[[noreturn]] void fail(const std::string& kind, const std::string& message);

// Faults in host code have no launch that could carry them.
[[noreturn]] inline void die(const std::string& message) {
  std::fprintf(stderr, "lisa_host: %s\n", message.c_str());
  std::abort();
}

}  // namespace lisa_host
