// Atomic functions on shared and global memory: of every number that <atomic> takes, and sums of vectors.
#pragma once
#include <atomic>
#include <type_traits>

#include "block.h"

namespace lisa_host {

template <class T, class Combine>
T read_modify_write(T* address, Combine combine) {
  maybe_spin();
  std::atomic_ref<T> place(*address);
  T old = place.load();
  while (!place.compare_exchange_weak(old, combine(old))) {
  }
  return old;
}

// Signed sums wrap in hardware.
template <class T>
T wrapping_add(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
  } else {
    return a + b;
  }
}

template <class T>
T wrapping_subtract(T a, T b) {
  using Unsigned = std::make_unsigned_t<T>;
  return static_cast<T>(static_cast<Unsigned>(a) - static_cast<Unsigned>(b));
}

}  // namespace lisa_host

#define LISA_HOST_ATOMIC(name, expression)                                                  \
  template <class T>                                                                        \
  T name(T* address, std::type_identity_t<T> value) {                                       \
    return ::lisa_host::read_modify_write(address, [=](T old) -> T { return expression; }); \
  }                                                                                         \
  template <class T>                                                                        \
  T name##_block(T* address, std::type_identity_t<T> value) {                               \
    return name(address, value);                                                            \
  }                                                                                         \
  template <class T>                                                                        \
  T name##_system(T* address, std::type_identity_t<T> value) {                              \
    return name(address, value);                                                            \
  }
LISA_HOST_ATOMIC(atomicAdd, ::lisa_host::wrapping_add(old, value))
LISA_HOST_ATOMIC(atomicSub, ::lisa_host::wrapping_subtract(old, value))
LISA_HOST_ATOMIC(atomicMin, old < value ? old : value)
LISA_HOST_ATOMIC(atomicMax, old > value ? old : value)
LISA_HOST_ATOMIC(atomicExch, value)
LISA_HOST_ATOMIC(atomicAnd, old& value)
LISA_HOST_ATOMIC(atomicOr, old | value)
LISA_HOST_ATOMIC(atomicXor, old ^ value)
LISA_HOST_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
LISA_HOST_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
#undef LISA_HOST_ATOMIC

// Each element by itself: of the whole vector the guide promises nothing.
#define LISA_HOST_ATOMIC_PAIR(Vector)                                                 \
  inline Vector atomicAdd(Vector* address, Vector value) {                            \
    Vector old;                                                                       \
    old.x = atomicAdd(&address->x, value.x), old.y = atomicAdd(&address->y, value.y); \
    return old;                                                                       \
  }
LISA_HOST_ATOMIC_PAIR(__half2)
LISA_HOST_ATOMIC_PAIR(__nv_bfloat162)
LISA_HOST_ATOMIC_PAIR(float2)
#undef LISA_HOST_ATOMIC_PAIR
inline float4 atomicAdd(float4* address, float4 value) {
  float4 old;
  old.x = atomicAdd(&address->x, value.x), old.y = atomicAdd(&address->y, value.y);
  old.z = atomicAdd(&address->z, value.z), old.w = atomicAdd(&address->w, value.w);
  return old;
}

// A failed exchange lets other threads run: the loop around it may wait for one of them.
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  ::lisa_host::maybe_spin();
  T old = compare;
  if (!std::atomic_ref<T>(*address).compare_exchange_strong(old, value)) ::lisa_host::spin();
  return old;
}

inline void __threadfence_block() { ::lisa_host::maybe_spin(); }
inline void __threadfence() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  ::lisa_host::maybe_spin();
}
inline void __threadfence_system() { __threadfence(); }
