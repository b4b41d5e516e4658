#include "shared_arena.h"

namespace lisa_host {

void SharedArena::reset() {
  variables_.clear();
  cursor_ = kRedZone;
  taken_ = 0;
  allow_access(memory_.get(), kBytes);
  std::memset(memory_.get(), kPoison, kRedZone);
  forbid_access(memory_.get(), kBytes);
}

void* SharedArena::variable(const void* key, const char* name, size_t bytes, size_t alignment) {
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

const char* SharedArena::overrun() const {
  if (LISA_HOST_ASAN) return nullptr;  // reported at the very access
  for (const Variable& variable : variables_)
    for (size_t i = 0; i < kRedZone; i++)
      if (static_cast<unsigned char>(variable.memory[variable.bytes + i]) != kPoison) return variable.name;
  return nullptr;
}

}  // namespace lisa_host
