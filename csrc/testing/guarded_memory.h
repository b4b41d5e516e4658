// Copies of a launch's tensors between inaccessible pages: a store that misses one ends the launch, not the process.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lisa_host {

// The copy ends at an inaccessible page, but for up to 15 bytes that keep its distance from a multiple of 16, the
// widest access of a thread.  Those, and what lies between the page in front and its first byte, are margins: they hold
// a pattern that is NaN in every float format, and are looked at after the launch.
class GuardedCopy {
 public:
  GuardedCopy(std::string name, void* original, size_t bytes, size_t number);
  ~GuardedCopy();
  GuardedCopy(GuardedCopy&& other) noexcept;
  GuardedCopy& operator=(GuardedCopy&&) = delete;

  const std::string& name() const { return name_; }
  char* begin() const { return begin_; }
  // Copies the original in, and makes the margins whole.
  void fill();
  void copy_back() const;
  // Whether an address lies in the inaccessible pages, a margin or the copy.
  bool spans(const void* address) const;
  // An access as messages tell it: "byte 80 of argument 1, which has 80 bytes".
  std::string position(const void* address) const;
  // Returns the first byte of a margin that was written, null if there is none.
  const char* written_margin() const;

 private:
  unsigned char margin_at(const char* address) const;

  std::string name_;
  size_t number_;  // among the copies
  void* original_;
  size_t bytes_;
  char* reserved_;  // inaccessible pages on both sides included
  size_t reserved_bytes_;
  char *pages_, *pages_end_, *begin_;
};

// Those of the launch that is being made; none for launches by launchers, whose memory is theirs.
class GuardedCopies {
 public:
  char* add(std::string name, void* original, size_t bytes);
  // Forgets all, after writing them back if the launch went well.
  void release(bool write_back);
  void refill();
  // "byte 80 of argument 1, which has 80 bytes"; empty if the address is near none of them.
  std::string position(const void* address) const;
  // The same for a margin that was written; empty if none was.
  std::string written_margin() const;

 private:
  std::vector<GuardedCopy> copies_;
};
extern GuardedCopies guarded;

}  // namespace lisa_host
