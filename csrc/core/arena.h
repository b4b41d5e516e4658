// Scratch of a CPU kernel's thread, cut into 64-byte aligned pieces.  Included by files that are built for each CPU
// capability, see simd.h.
#pragma once
#include <cstdint>

namespace lisa::LISA_CAPABILITY {

// Cuts pieces off a block of memory; without a block it only counts.
struct Arena {
  char* memory;
  int64_t used = 0;

  template <typename T>
  T* take(int64_t count) {
    char* piece = memory + used;
    used += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return reinterpret_cast<T*>(piece);
  }
};

}  // namespace lisa::LISA_CAPABILITY
