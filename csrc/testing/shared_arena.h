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
  void reset();

  // Returns the address of the variable that `key` stands for, the same for all threads of the block.
  void* variable(const void* key, const char* name, size_t bytes, size_t alignment);

  // Returns the name of a variable whose red zone was written to, null if there is none.
  const char* overrun() const;

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
