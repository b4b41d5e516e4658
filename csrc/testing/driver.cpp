// Runs one launch of a kernel in a process of its own, which a sanitizer may end: `driver REQUEST RESULT`.
// Without arguments it lists the kernels.  lisa_kernels/testing/cuda/sanitized.py writes the request and reads the
// result.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "sanitizers.h"

extern "C" {
const char* lisa_host_kernels();
void lisa_host_set(uint64_t seed, int32_t threads, int32_t limit_s);
int lisa_host_launch(const char* kernel, const uint32_t* shape, uint64_t shared_bytes, void* const* arguments);
const char* lisa_host_fault_kind();
const char* lisa_host_fault_message();
const char* lisa_host_running();
void __sanitizer_set_death_callback(void (*callback)());

// Kernels abandon their stacks, never their heap; the leaks found would be this program's.
const char* __asan_default_options() { return "detect_leaks=0:detect_stack_use_after_return=0"; }
const char* __ubsan_default_options() { return "print_stacktrace=0"; }
// Called by UBSan for each report, before the process ends.
void __ubsan_on_report() { std::fprintf(stderr, "lisa_host: %s\n", lisa_host_running()); }
}

namespace {

// Little-endian 64-bit numbers and raw bytes.
class Request {
 public:
  explicit Request(const char* path) : file_(std::fopen(path, "rb")) {
    if (!file_) std::exit(2);
  }
  void read(void* memory, size_t bytes) {
    if (bytes && std::fread(memory, 1, bytes, file_) != bytes) std::exit(2);
  }
  int64_t number() {
    int64_t value;
    read(&value, sizeof value);
    return value;
  }
  std::string text() {
    std::string value(number(), '\0');
    read(value.data(), value.size());
    return value;
  }

 private:
  std::FILE* file_;
};

// As far from a multiple of 256 as the caller's memory was, and nothing readable around it.
struct Buffer {
  char* memory;
  size_t bytes;

  Buffer(size_t size, size_t misalignment) : bytes(size) {
    void* whole;
    if (posix_memalign(&whole, 256, misalignment + size + 1)) std::exit(2);
    memory = static_cast<char*>(whole) + misalignment;
    lisa_host::forbid_access(whole, misalignment);
    lisa_host::forbid_access(memory + size, 1);
  }
};

}  // namespace

int main(int count, char** arguments) {
  if (count == 1) {
    std::fputs(lisa_host_kernels(), stdout);
    return 0;
  }
  __sanitizer_set_death_callback([] { std::fprintf(stderr, "lisa_host: %s\n", lisa_host_running()); });
  Request request(arguments[1]);
  const std::string kernel = request.text();
  uint32_t shape[6];
  for (uint32_t& size : shape) size = static_cast<uint32_t>(request.number());
  const uint64_t shared_bytes = request.number(), seed = request.number();
  // The time limit is the caller's business.
  lisa_host_set(seed, static_cast<int32_t>(request.number()), 0);

  std::vector<Buffer> buffers;
  for (int64_t left = request.number(); left > 0; left--) {
    const int64_t bytes = request.number();
    buffers.emplace_back(bytes, request.number());
    request.read(buffers.back().memory, bytes);
  }
  std::vector<std::vector<char>> values(request.number());
  std::vector<void*> addresses;
  for (std::vector<char>& value : values) {
    value.resize(request.number());
    request.read(value.data(), value.size());
    for (int64_t pointers = request.number(); pointers > 0; pointers--) {
      const int64_t at = request.number(), buffer = request.number(), offset = request.number();
      char* address = buffers[buffer].memory + offset;
      std::memcpy(value.data() + at, &address, sizeof address);
    }
    addresses.push_back(value.data());
  }

  if (lisa_host_launch(kernel.c_str(), shape, shared_bytes, addresses.data())) return 2;
  if (*lisa_host_fault_kind()) {
    std::printf("%s\n%s\n", lisa_host_fault_kind(), lisa_host_fault_message());
    return 3;
  }
  std::FILE* result = std::fopen(arguments[2], "wb");
  if (!result) return 2;
  for (const Buffer& buffer : buffers)
    if (std::fwrite(buffer.memory, 1, buffer.bytes, result) != buffer.bytes) return 2;
  return std::fclose(result) ? 2 : 0;
}
