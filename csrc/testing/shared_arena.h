// The shared memory of one block: poisoned when handed out, with red zones between variables.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "async_copy_queue.h"
#include "fault.h"
#include "launch.h"
#include "sanitizers.h"

namespace lisa_host {

class SharedArena {
 public:
  ~SharedArena() { allow_access(memory_.get(), kBytes); }

  // Forgets the last block's variables.
  void reset() {
    variables_.clear();
    cursor_ = kRedZone;
    taken_ = 0;
    allow_access(memory_.get(), kBytes);
    std::memset(memory_.get(), kPoison, kRedZone);
    forbid_access(memory_.get(), kBytes);
  }

  // Returns the address of the variable that `key` stands for, the same for all threads of the block.
  void* variable(const void* key, const char* name, size_t bytes, size_t alignment) {
    for (const Variable& known : variables_)
      if (known.key == key) return known.memory;
    taken_ += bytes;
    if (taken_ > kMostSharedBytes) {
      fail("shared memory", "`" + std::string(name) + "` brings the block to " + std::to_string(taken_) +
                                " bytes of shared memory; at most 227 KiB fit");
    }
    char* start = memory_.get() + cursor_;
    start += (alignment - reinterpret_cast<uintptr_t>(start) % alignment) % alignment;
    cursor_ = start + bytes + kRedZone - memory_.get();
    if (cursor_ > kBytes) fail("shared memory", "too many shared variables in one block");
    // A red zone holds poison too: a read beyond an array is as visible as an uninitialised one.
    allow_access(start, bytes + kRedZone);
    std::memset(start, kPoison, bytes + kRedZone);
    forbid_access(start + bytes, kRedZone);
    variables_.push_back({key, name, start, bytes});
    return start;
  }

  // Returns the name of a variable whose red zone was written to, null if there is none.
  const char* overrun() const {
    if (LISA_HOST_ASAN) return nullptr;  // reported at the very access
    for (const Variable& variable : variables_)
      for (size_t i = 0; i < kRedZone; i++)
        if (static_cast<unsigned char>(variable.memory[variable.bytes + i]) != kPoison) return variable.name;
    return nullptr;
  }

 private:
  struct Variable {
    const void* key;
    const char* name;
    char* memory;
    size_t bytes;
  };
  static constexpr size_t kRedZone = 128;
  static constexpr size_t kBytes = kMostSharedBytes + (64 << 10);  // red zones and alignment of many variables

  std::unique_ptr<char[]> memory_{new char[kBytes]};
  size_t cursor_ = 0, taken_ = 0;
  std::vector<Variable> variables_;
};

}  // namespace lisa_host
