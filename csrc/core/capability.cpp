#include "capability.h"

#include <atomic>

#if defined(LISA_HAVE_X86)
#include <cpuid.h>
#endif

namespace lisa {

#if defined(LISA_HAVE_X86)
// Clang before 18 and GCC before 11 do not know "f16c" in __builtin_cpu_supports.
static bool has_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
#endif

Capability widest_capability() {
#if defined(LISA_HAVE_X86)
  // All that the compiler was allowed to use for a build: see CAPABILITIES in setup.py.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
      return __builtin_cpu_supports("avx512bf16") ? Capability::kAvx512Bf16 : Capability::kAvx512;
    return Capability::kAvx2;
  }
#endif
  return Capability::kBaseline;
}

namespace {
std::atomic<Capability>& current() {
  static std::atomic<Capability> capability{widest_capability()};
  return capability;
}
}  // namespace

Capability cpu_capability() { return current(); }

bool set_cpu_capability(Capability capability) {
  if (capability > widest_capability()) return false;
  current() = capability;
  return true;
}

}  // namespace lisa
