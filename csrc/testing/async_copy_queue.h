// Copies that a thread has started and not waited for (PTX ISA, cp.async, cp.async.commit_group, cp.async.wait_group).
#pragma once
#include <cstddef>
#include <cstring>
#include <deque>
#include <vector>

namespace lisa_host {

// Bytes of shared memory before anything was written, and of a copy's destination until it is waited for: NaN in every
// float format, -1 in every integer.
constexpr int kPoison = 0xff;

// Worst case of what the hardware may do: nothing arrives before the wait, and the source is read only then.
class AsyncCopyQueue {
 public:
  void clear() {
    open_.clear();
    groups_.clear();
  }

  void start(void* destination, const void* source, size_t bytes, size_t zero_bytes) {
    std::memset(destination, kPoison, bytes);
    open_.push_back({static_cast<char*>(destination), static_cast<const char*>(source), bytes, zero_bytes});
  }

  // Closes a group; an empty one counts, as in PTX.
  void commit() {
    groups_.push_back(std::move(open_));
    open_.clear();
  }

  // Finishes all groups but the latest `pending`.
  void wait(size_t pending) {
    while (groups_.size() > pending) {
      for (const Copy& copy : groups_.front()) copy.finish();
      groups_.pop_front();
    }
  }

 private:
  struct Copy {
    char* destination;
    const char* source;
    size_t bytes;
    size_t zero_bytes;  // at the end, filled with 0 instead of read

    void finish() const {
      std::memcpy(destination, source, bytes - zero_bytes);
      std::memset(destination + bytes - zero_bytes, 0, zero_bytes);
    }
  };
  std::vector<Copy> open_;
  std::deque<std::vector<Copy>> groups_;
};

}  // namespace lisa_host
