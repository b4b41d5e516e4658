// <cuda_pipeline_primitives.h>: copies from global to shared memory that a thread waits for later.
#pragma once
#include "barrier.h"
#include "block.h"

inline void __pipeline_memcpy_async(void* destination, const void* source, size_t bytes, size_t zero_bytes = 0,
                                    LISA_HOST_WHERE) {
  using ::lisa_host::fail;
  using ::lisa_host::place;
  if (bytes != 4 && bytes != 8 && bytes != 16) {
    fail("async copy",
         "__pipeline_memcpy_async of " + std::to_string(bytes) + " bytes; it takes 4, 8 or 16, " + place(where));
  }
  if (zero_bytes > bytes) fail("async copy", "zfill is larger than the copy, " + place(where));
  if (reinterpret_cast<uintptr_t>(destination) % bytes || reinterpret_cast<uintptr_t>(source) % bytes) {
    fail("async copy", "__pipeline_memcpy_async of " + std::to_string(bytes) +
                           " bytes takes addresses aligned to as many, " + place(where));
  }
  ::lisa_host::current->copies.start(destination, source, bytes, zero_bytes);
}
inline void __pipeline_commit() { ::lisa_host::current->copies.commit(); }
inline void __pipeline_wait_prior(size_t pending) { ::lisa_host::current->copies.wait(pending); }
