// Which memory of torch's CPU tensors is alive: an emulator that gets addresses from a launcher must know what lies
// there.
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <cstdint>
#include <map>
#include <mutex>

namespace {

std::mutex guard;
std::map<void*, uint64_t> live;
c10::Allocator* base = nullptr;

void forget_and_free(void* memory) {
  {
    std::lock_guard lock(guard);
    live.erase(memory);
  }
  base->raw_deleter()(memory);
}

struct Recording final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* memory = base->raw_allocate(bytes);
    if (memory) {
      std::lock_guard lock(guard);
      live[memory] = bytes;
    }
    return {memory, memory, &forget_and_free, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &forget_and_free; }
  void copy_data(void* target, const void* source, size_t bytes) const override {
    default_copy_data(target, source, bytes);
  }
};

}  // namespace

// Records allocations from now on, to the end of the process.
extern "C" __attribute__((visibility("default"))) void lisa_host_record_allocations() {
  static Recording recording;
  if (base) return;
  base = c10::GetCPUAllocator();
  c10::SetCPUAllocator(&recording, /*priority=*/100);
}

// Writes address and size of each, as far as there is room, and returns how many there are.
extern "C" __attribute__((visibility("default"))) uint64_t lisa_host_allocations(uint64_t* pairs, uint64_t room) {
  std::lock_guard lock(guard);
  uint64_t count = 0;
  for (const auto& [memory, bytes] : live) {
    if (count < room) {
      pairs[2 * count] = reinterpret_cast<uint64_t>(memory);
      pairs[2 * count + 1] = bytes;
    }
    count++;
  }
  return count;
}
