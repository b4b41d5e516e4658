#include "guarded_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "fault.h"

namespace lisa_host {

GuardedCopies guarded;

namespace {

// On either side; addresses only, no memory.
constexpr size_t kInaccessible = size_t{1} << 30;
constexpr size_t kWidestAccess = 16;

}  // namespace

// As NaN as kPoison in 16 bits and more, and unlike it nothing that a kernel is likely to write: -1 is.  It differs
// from place to place and from copy to copy: a loop that goes one too far copies a margin into a margin.
unsigned char GuardedCopy::margin_at(const char* address) const {
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  return at % 2 ? 0xff : 0x81 + (at / 2 % 2048 * 29 + number_ * 53) % 126;
}

GuardedCopy::GuardedCopy(std::string name, void* original, size_t bytes, size_t number)
    : name_(std::move(name)), number_(number), original_(original), bytes_(bytes) {
  const size_t page = sysconf(_SC_PAGESIZE);
  const size_t accessible = (bytes + kWidestAccess + page - 1) / page * page;
  reserved_bytes_ = accessible + 2 * kInaccessible;
  void* reserved = mmap(nullptr, reserved_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) die("no addresses left for the guarded copy of " + name_);
  reserved_ = static_cast<char*>(reserved);
  pages_ = reserved_ + kInaccessible;
  pages_end_ = pages_ + accessible;
  if (mprotect(pages_, accessible, PROT_READ | PROT_WRITE)) die("no memory left for the guarded copy of " + name_);
  const size_t wanted = reinterpret_cast<uintptr_t>(original) % kWidestAccess;
  begin_ = pages_end_ - bytes;
  begin_ -= (reinterpret_cast<uintptr_t>(begin_) + kWidestAccess - wanted) % kWidestAccess;
  fill();
}

GuardedCopy::GuardedCopy(GuardedCopy&& other) noexcept
    : name_(std::move(other.name_)),
      number_(other.number_),
      original_(other.original_),
      bytes_(other.bytes_),
      reserved_(std::exchange(other.reserved_, nullptr)),
      reserved_bytes_(other.reserved_bytes_),
      pages_(other.pages_),
      pages_end_(other.pages_end_),
      begin_(other.begin_) {}

GuardedCopy::~GuardedCopy() {
  if (reserved_) munmap(reserved_, reserved_bytes_);
}

void GuardedCopy::fill() {
  for (char* at = pages_; at < begin_; at++) *at = static_cast<char>(margin_at(at));
  std::memcpy(begin_, original_, bytes_);
  for (char* at = begin_ + bytes_; at < pages_end_; at++) *at = static_cast<char>(margin_at(at));
}

void GuardedCopy::copy_back() const { std::memcpy(original_, begin_, bytes_); }

bool GuardedCopy::spans(const void* address) const {
  return address >= reserved_ && address < reserved_ + reserved_bytes_;
}

std::string GuardedCopy::position(const void* address) const {
  return "byte " + std::to_string(static_cast<const char*>(address) - begin_) + " of " + name_ + ", which has " +
         std::to_string(bytes_) + " bytes";
}

const char* GuardedCopy::written_margin() const {
  const auto written = [this](const char* at) { return static_cast<unsigned char>(*at) != margin_at(at); };
  for (const char* at = begin_ + bytes_; at < pages_end_; at++)
    if (written(at)) return at;
  const char* at = begin_;
  while (at > pages_ && !written(at - 1)) at--;
  if (at == pages_) return nullptr;
  // The store began where the written bytes do.
  while (at > pages_ && written(at - 1)) at--;
  return at;
}

char* GuardedCopies::add(std::string name, void* original, size_t bytes) {
  return copies_.emplace_back(std::move(name), original, bytes, copies_.size()).begin();
}

void GuardedCopies::release(bool write_back) {
  if (write_back)
    for (const GuardedCopy& copy : copies_) copy.copy_back();
  copies_.clear();
}

void GuardedCopies::refill() {
  for (GuardedCopy& copy : copies_) copy.fill();
}

std::string GuardedCopies::position(const void* address) const {
  for (const GuardedCopy& copy : copies_)
    if (copy.spans(address)) return copy.position(address);
  return {};
}

std::string GuardedCopies::written_margin() const {
  for (const GuardedCopy& copy : copies_)
    if (const char* at = copy.written_margin()) return copy.position(at);
  return {};
}

}  // namespace lisa_host
