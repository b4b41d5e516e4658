// __syncthreads and its reductions (CUDA C++ Programming Guide, "Synchronization Functions").
#pragma once
#include "block.h"

namespace lisa_host {

// Returns the sum of the predicates of all threads that have not left the kernel: from sm_70 on a barrier waits for
// those alone.  They must all come to the same barrier; hardware lets some breaches of that pass.
int block_barrier(const char* name, int predicate, const Location& where);

}  // namespace lisa_host

#define LISA_HOST_WHERE const ::lisa_host::Location& where = ::lisa_host::Location::current()

inline void __syncthreads(LISA_HOST_WHERE) { ::lisa_host::block_barrier("__syncthreads", 0, where); }
inline int __syncthreads_count(int predicate, LISA_HOST_WHERE) {
  return ::lisa_host::block_barrier("__syncthreads_count", predicate != 0, where);
}
inline int __syncthreads_or(int predicate, LISA_HOST_WHERE) {
  return ::lisa_host::block_barrier("__syncthreads_or", predicate != 0, where) != 0;
}
inline int __syncthreads_and(int predicate, LISA_HOST_WHERE) {
  return ::lisa_host::block_barrier("__syncthreads_and", predicate == 0, where) == 0;
}
