// The importable module.  pybind11 without torch: the ops register themselves when the library loads.
#include <omp.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "core/capability.h"

namespace {
constexpr const char* kNames[] = {"baseline", "avx2", "avx512", "avx512bf16"};

const char* name(lisa::Capability capability) { return kNames[static_cast<int>(capability)]; }

void set_cpu_capability(const std::string& wanted) {
  for (int i = 0; i < 4; ++i) {
    if (wanted != kNames[i]) continue;
    if (lisa::set_cpu_capability(static_cast<lisa::Capability>(i))) return;
    throw std::invalid_argument("set_cpu_capability: capability is '" + wanted + "'; this machine has up to '" +
                                name(lisa::widest_capability()) + "'.");
  }
  throw std::invalid_argument("set_cpu_capability: capability is '" + wanted +
                              "'; it takes baseline, avx2, avx512 or avx512bf16.");
}

// How many threads a parallel loop of this library really gets: built without OpenMP it would silently be 1.
int threads_used(int asked) {
  if (asked < 1)
    throw std::invalid_argument("threads_used: asked is " + std::to_string(asked) + "; it takes 1 or more.");
  int used = 0;
#pragma omp parallel num_threads(asked)
#pragma omp single
  used = omp_get_num_threads();
  return used;
}
}  // namespace

PYBIND11_MODULE(_C, m) {
  m.def("build_info", [] {
    pybind11::dict info;
#if defined(LISA_CUDA_ARCHS)
    info["cuda"] = LISA_CUDA_ARCHS;
#else
    info["cuda"] = false;
#endif
    info["openmp"] = _OPENMP;
    info["compiler"] = LISA_COMPILER;
    info["torch"] = LISA_TORCH_VERSION;
    info["cpu_capability"] = name(lisa::cpu_capability());
    info["widest_cpu_capability"] = name(lisa::widest_capability());
    return info;
  });
  m.def("set_cpu_capability", &set_cpu_capability, pybind11::arg("capability"));
  m.def("threads_used", &threads_used, pybind11::arg("asked"));
}
