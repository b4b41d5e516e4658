// What AddressSanitizer must be told about fibers and shared memory; nothing in other builds.
#pragma once
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define LISA_HOST_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define LISA_HOST_ASAN 0
#endif

namespace lisa_host {

#if LISA_HOST_ASAN
inline void forbid_access(const void* memory, size_t bytes) { __asan_poison_memory_region(memory, bytes); }
inline void allow_access(const void* memory, size_t bytes) { __asan_unpoison_memory_region(memory, bytes); }
#else
inline void forbid_access(const void*, size_t) {}
inline void allow_access(const void*, size_t) {}
#endif

// The sanitizer's note of one side of a switch.
struct FiberAnnotation {
  void* fake_stack = nullptr;

  void before_switch_to([[maybe_unused]] const void* stack, [[maybe_unused]] size_t bytes) {
#if LISA_HOST_ASAN
    __sanitizer_start_switch_fiber(&fake_stack, stack, bytes);
#endif
  }
  void after_switch_back([[maybe_unused]] const void** left, [[maybe_unused]] size_t* left_bytes) {
#if LISA_HOST_ASAN
    __sanitizer_finish_switch_fiber(fake_stack, left, left_bytes);
#endif
  }
};

}  // namespace lisa_host
