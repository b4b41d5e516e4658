#include "launch.h"

#include <dlfcn.h>

#include <algorithm>

#include "keywords.h"

namespace lisa_host {

State state;

namespace {

constexpr char kRefused[] = "launch refused";

void refuse_launch(const Launch& launch, cudaError_t error, const std::string& reason) {
  state.error = error;
  if (state.fault.kind.empty()) state.fault = {kRefused, std::string("kernel ") + launch.kernel + ": " + reason};
}

// What the driver would refuse before anything runs.
bool launch_is_valid(const Launch& launch) {
  const uint32_t *grid = launch.grid, *block = launch.block;
  const dim3 blocks(grid[0], grid[1], grid[2]), threads(block[0], block[1], block[2]);
  const uint64_t count = uint64_t{threads.x} * threads.y * threads.z;
  if (count == 0 || count > kThreadsPerBlock || threads.z > kBlockDepth) {
    refuse_launch(launch, cudaErrorInvalidConfiguration,
                  "a block of " + coordinates(threads) + " threads; it takes 1 to 1024, at most 64 of them in z");
    return false;
  }
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0 || blocks.x > kGridWidth || blocks.y > kGridHeight ||
      blocks.z > kGridHeight) {
    refuse_launch(launch, cudaErrorInvalidConfiguration,
                  "a grid of " + coordinates(blocks) + " blocks; it takes at least 1, at most 65535 in y and in z");
    return false;
  }
  const auto raised = state.shared_limits.find(launch.function);
  const uint64_t limit = raised == state.shared_limits.end() ? kDefaultSharedBytes : raised->second;
  if (launch.shared_bytes > limit) {
    refuse_launch(launch, cudaErrorInvalidValue,
                  std::to_string(launch.shared_bytes) + " bytes of dynamic shared memory; its limit is " +
                      std::to_string(limit) +
                      ". Raise it by cudaFuncSetAttribute(kernel, "
                      "cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), to at most 227 KiB");
    return false;
  }
  return true;
}

}  // namespace

void submit(const Launch& launch) {
  // After a fault the device is lost; a refused launch leaves it as it was.
  const bool lost = !state.fault.kind.empty() && state.fault.kind != kRefused;
  if (!lost && launch_is_valid(launch)) state.executor(&launch);
}

const char* symbol_of(void (*function)()) {
  Dl_info info;
  void* address = reinterpret_cast<void*>(function);
  return dladdr(address, &info) && info.dli_saddr == address ? info.dli_sname : nullptr;
}

void set_shape(Launch& launch, dim3 grid, dim3 block, uint64_t shared_bytes, void* stream) {
  const uint32_t blocks[] = {grid.x, grid.y, grid.z}, threads[] = {block.x, block.y, block.z};
  std::copy(blocks, blocks + 3, launch.grid);
  std::copy(threads, threads + 3, launch.block);
  launch.shared_bytes = shared_bytes;
  launch.stream = stream;
}

}  // namespace lisa_host
