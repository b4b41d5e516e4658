// A CUDA thread as a fiber: a stack of its own, and the switch between two stacks.
#pragma once
#include <cuda_runtime_api.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "async_copy_queue.h"
#include "fault.h"
#include "sanitizers.h"

#if !defined(__x86_64__) || !defined(__linux__)
#error "csrc/testing runs CUDA kernels on x86-64 Linux only: the switch between fibers is written for it."
#endif

namespace lisa_host {

// AddressSanitizer surrounds every local variable with red zones.
constexpr size_t kStackBytes = LISA_HOST_ASAN ? 256 << 10 : 64 << 10;

struct Block;
struct Warp;

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;  // lowest usable address
  uint3 thread{};
  int index = 0;  // in the block, x fastest
  int lane = 0;
  Warp* warp = nullptr;
  Block* block = nullptr;
  bool done = false;
  // For the report of a deadlock: what the thread waits at, null while it can run.
  const char* waits_at = nullptr;
  Location waits_where;
  AsyncCopyQueue copies;
  FiberAnnotation annotation;
};

// The thread that runs on this OS thread; null in host code.
inline constinit thread_local Fiber* current = nullptr;

// Saves the callee-saved registers of the System V ABI on this stack and takes up the other one.
__attribute__((naked, noinline)) inline void switch_stack([[maybe_unused]] void** save, [[maybe_unused]] void* to) {
  asm volatile(
      "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}

// Makes the first switch to the fiber enter `entry` with an aligned stack.
inline void prepare_stack(Fiber& fiber, void (*entry)()) {
  constexpr int kSavedRegisters = 6;
  void** top = reinterpret_cast<void**>(fiber.stack + kStackBytes) - 8;
  *--top = nullptr;  // where entry would return to
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; i++) *--top = nullptr;
  fiber.stack_pointer = top;
}

// Stacks with an unmapped page below each: a kernel that overruns its stack faults instead of writing elsewhere.
class Stacks {
 public:
  Stacks() = default;
  Stacks(const Stacks&) = delete;
  ~Stacks() {
    for (const Mapping& mapping : mappings_) munmap(mapping.memory, mapping.bytes);
  }

  char* operator[](size_t i) { return stacks_[i]; }

  void grow(size_t count) {
    if (count <= stacks_.size()) return;
    const size_t page = sysconf(_SC_PAGESIZE), stride = page + kStackBytes, missing = count - stacks_.size();
    void* memory = mmap(nullptr, missing * stride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) die("no memory for the stacks of a block");
    mappings_.push_back({memory, missing * stride});
    for (size_t i = 0; i < missing; i++) {
      char* guard = static_cast<char*>(memory) + i * stride;
      mprotect(guard, page, PROT_NONE);
      stacks_.push_back(guard + page);
    }
  }

 private:
  struct Mapping {
    void* memory;
    size_t bytes;
  };
  std::vector<Mapping> mappings_;
  std::vector<char*> stacks_;
};

}  // namespace lisa_host
