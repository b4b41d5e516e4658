// __syncthreads and its reductions (CUDA C++ Programming Guide, "Synchronization Functions").
#pragma once
#include "block.h"

namespace lisa_host {

// Returns the sum of the predicates of all threads.  The guide's rule is held to the letter: all threads of the block
// reach the same barrier; hardware lets some breaches pass.
inline int block_barrier(const char* name, int predicate, const Location& where) {
  Block& block = *current->block;
  Barrier& barrier = block.barrier;
  if (block.exited) {
    fail("divergent barrier",
         std::to_string(block.exited) + " threads have left the kernel before " + name + ", " + place(where));
  }
  if (barrier.arrived == 0) barrier.where = where;
  if (barrier.where.line() != where.line() || std::strcmp(barrier.where.file_name(), where.file_name()) != 0) {
    fail("divergent barrier",
         "some threads wait at " + place(barrier.where) + " and this one comes to " + place(where));
  }
  barrier.predicate_sum += predicate;
  if (++barrier.arrived < block.alive) {
    wait_at(name, where);
    return barrier.last_sum;
  }
  barrier.last_sum = barrier.predicate_sum;
  barrier.arrived = barrier.predicate_sum = 0;
  for (Fiber& fiber : block.fibers)
    if (&fiber != current && fiber.block == &block) block.wake(fiber);
  return barrier.last_sum;
}

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
