#include "exports.h"

#include <map>

#include "block.h"
#include "guarded_memory.h"

namespace lisa_host {
namespace {

struct Export {
  Launch launch;
  std::string signature;  // type codes, separated by spaces
};

std::map<std::string, Export>& exports() {
  static std::map<std::string, Export> all;  // filled by initialisers of several files, in any order
  return all;
}

}  // namespace

void add_export(const Launch& launch, const std::string& signature) {
  const auto other = exports().find(launch.kernel);
  const bool taken = other != exports().end() && other->second.launch.function != launch.function;
  exports()[launch.kernel] = {launch, taken ? "ambiguous" : signature};
}

}  // namespace lisa_host

extern "C" {

// Returns the names of the kernels, each with a tab and its signature, one in a line.
const char* lisa_host_kernels() {
  static std::string text;
  text.clear();
  for (const auto& [name, kernel] : lisa_host::exports()) text += name + "\t" + kernel.signature + "\n";
  return text.c_str();
}

void lisa_host_set(uint64_t seed, int32_t threads, int32_t limit_s) {
  lisa_host::state.seed = seed;
  lisa_host::state.threads = threads;
  lisa_host::state.limit_s = limit_s;
}

// Null: the executor of this folder.
void lisa_host_execute_with(lisa_host::Executor executor) {
  lisa_host::state.executor = executor ? executor : lisa_host::run_on_fibers;
}

// Returns 0, or 1 if there is no such kernel.  `shape`: grid, then block.
int lisa_host_launch(const char* kernel, const uint32_t* shape, uint64_t shared_bytes, void* const* arguments) {
  using namespace lisa_host;
  const auto found = exports().find(kernel);
  if (found == exports().end()) return 1;
  Launch launch = found->second.launch;
  set_shape(launch, dim3(shape[0], shape[1], shape[2]), dim3(shape[3], shape[4], shape[5]), shared_bytes, nullptr);
  launch.arguments = arguments;
  // A caller without a launcher has nowhere to raise the limit.
  state.shared_limits[launch.function] = kMostSharedBytes;
  submit(launch);
  return 0;
}

// Returns the address of a copy between inaccessible pages, for the launches until lisa_host_release.
void* lisa_host_guard(const char* name, void* memory, uint64_t bytes) {
  return lisa_host::guarded.add(name, memory, bytes);
}
// Writes the copies back, unless there was a fault, and frees them.
void lisa_host_release() { lisa_host::guarded.release(lisa_host::state.fault.kind.empty()); }

// The thread that runs on this OS thread, for the reports of sanitizers.
const char* lisa_host_running() {
  static thread_local std::string text;
  text = lisa_host::current ? lisa_host::describe(*lisa_host::current) : "outside a kernel";
  return text.c_str();
}

// The first fault since lisa_host_clear; empty if there was none.
const char* lisa_host_fault_kind() { return lisa_host::state.fault.kind.c_str(); }
const char* lisa_host_fault_message() { return lisa_host::state.fault.message.c_str(); }
void lisa_host_clear() {
  lisa_host::state.fault = {};
  lisa_host::state.error = cudaSuccess;
}

}  // extern "C"
