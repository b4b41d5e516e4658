// What translate/shared.py makes of `__shared__` declarations.
#pragma once
#include "block.h"

namespace lisa_host {

template <class T>
T& shared_variable(const void* key, const char* name, size_t alignment = 1) {
  return *static_cast<T*>(current->block->shared.variable(key, name, sizeof(T), std::max(alignment, alignof(T))));
}

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(current->block->dynamic_shared);
}

}  // namespace lisa_host
