// Collective operations of a warp: __syncwarp, shuffles, votes, match and reduce (CUDA C++ Programming Guide, "Warp
// Vote", "Warp Match", "Warp Reduce" and "Warp Shuffle Functions").  Lanes that have left the kernel are not waited
// for.
#pragma once
#include <type_traits>

#include "barrier.h"
#include "block.h"

namespace lisa_host {

// What a shuffle from a lane that takes no part returns: undefined by the guide, visible here.
constexpr uint64_t kUndefined = ~uint64_t{0};

template <class T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "warp operations take values of at most 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(static_cast<void*>(&value), &bits, sizeof value);
  return value;
}

// The open operation that this lane joins.
Collective& gathering(Warp& warp, const char* operation, uint32_t mask, const Location& where);

// Hands in a value, waits for the other lanes of the mask, and returns what `read` makes of all values.
template <class Read>
auto collect(const char* operation, uint32_t mask, uint64_t value, bool predicate, const Location& where, Read read) {
  Fiber& fiber = *current;
  Warp& warp = *fiber.warp;
  const uint32_t mine = 1u << fiber.lane;
  Collective& all = gathering(warp, operation, mask, where);
  all.arrived |= mine;
  all.values[fiber.lane] = value;
  if (predicate) all.predicates |= mine;
  if (complete(all, warp)) {
    open_for_reading(*fiber.block, all, fiber.index - fiber.lane);
  } else {
    wait_at(operation, where);
  }
  auto result = read(static_cast<const Collective&>(all));
  all.unread &= ~mine;
  if (!all.unread) all.mask = 0;
  return result;
}

// `source`: the lane to read from; below 0: one's own value.
template <class T>
T shuffle(const char* operation, uint32_t mask, T value, int source, const Location& where) {
  const int lane = source < 0 ? current->lane : source;
  return collect(operation, mask, to_bits(value), false, where, [&](const Collective& all) {
    return from_bits<T>(all.arrived >> lane & 1 ? all.values[lane] : kUndefined);
  });
}

template <class T, class Combine>
T reduce(const char* operation, uint32_t mask, T value, const Location& where, Combine combine) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned>, "__reduce_*_sync takes int or unsigned");
  return collect(operation, mask, to_bits(value), false, where, [&](const Collective& all) {
    T result = value;
    for (int lane = 0; lane < kWarpSize; lane++)
      if (all.arrived >> lane & 1 && lane != current->lane) result = combine(result, from_bits<T>(all.values[lane]));
    return result;
  });
}

inline uint32_t vote(const char* operation, uint32_t mask, int predicate, const Location& where) {
  return collect(operation, mask, 0, predicate != 0, where, [](const Collective& all) { return all.predicates; });
}

template <class T>
uint32_t match(const char* operation, uint32_t mask, T value, const Location& where) {
  const uint64_t bits = to_bits(value);
  return collect(operation, mask, bits, false, where, [&](const Collective& all) {
    uint32_t equal = 0;
    for (int lane = 0; lane < kWarpSize; lane++)
      if (all.arrived >> lane & 1 && all.values[lane] == bits) equal |= 1u << lane;
    return equal;
  });
}

}  // namespace lisa_host

inline void __syncwarp(unsigned mask = 0xffffffffu, LISA_HOST_WHERE) {
  ::lisa_host::collect("__syncwarp", mask, 0, false, where, [](const auto&) { return 0; });
}

// `width` divides the warp into segments; a source outside the own segment gives the own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, LISA_HOST_WHERE) {
  const int segment = ::lisa_host::current->lane & ~(width - 1);
  return ::lisa_host::shuffle("__shfl_sync", mask, value, segment | (source & (width - 1)), where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, LISA_HOST_WHERE) {
  const int lane = ::lisa_host::current->lane, source = lane - static_cast<int>(delta);
  return ::lisa_host::shuffle("__shfl_up_sync", mask, value, source < (lane & ~(width - 1)) ? -1 : source, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, LISA_HOST_WHERE) {
  const int lane = ::lisa_host::current->lane, source = lane + static_cast<int>(delta);
  return ::lisa_host::shuffle("__shfl_down_sync", mask, value, source > (lane | (width - 1)) ? -1 : source, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, LISA_HOST_WHERE) {
  const int lane = ::lisa_host::current->lane, source = lane ^ lane_mask;
  return ::lisa_host::shuffle("__shfl_xor_sync", mask, value, source > (lane | (width - 1)) ? -1 : source, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, LISA_HOST_WHERE) {
  return ::lisa_host::vote("__ballot_sync", mask, predicate, where);
}
inline int __any_sync(unsigned mask, int predicate, LISA_HOST_WHERE) {
  return ::lisa_host::vote("__any_sync", mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, LISA_HOST_WHERE) {
  return ::lisa_host::vote("__all_sync", mask, predicate == 0, where) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, LISA_HOST_WHERE) {
  return ::lisa_host::match("__match_any_sync", mask, value, where);
}
template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* predicate, LISA_HOST_WHERE) {
  const uint64_t bits = ::lisa_host::to_bits(value);
  const unsigned equal =
      ::lisa_host::collect("__match_all_sync", mask, bits, false, where, [&](const ::lisa_host::Collective& all) {
        for (int lane = 0; lane < warpSize; lane++)
          if (all.arrived >> lane & 1 && all.values[lane] != bits) return 0u;
        return mask;
      });
  *predicate = equal != 0;
  return equal;
}

#define LISA_HOST_REDUCE(name, expression)                                                           \
  template <class T>                                                                                 \
  T name(unsigned mask, T value, LISA_HOST_WHERE) {                                                  \
    return ::lisa_host::reduce(#name, mask, value, where, [](T a, T b) -> T { return expression; }); \
  }
LISA_HOST_REDUCE(__reduce_add_sync, static_cast<T>(static_cast<unsigned>(a) + static_cast<unsigned>(b)))
LISA_HOST_REDUCE(__reduce_min_sync, a < b ? a : b)
LISA_HOST_REDUCE(__reduce_max_sync, a > b ? a : b)
LISA_HOST_REDUCE(__reduce_and_sync, a& b)
LISA_HOST_REDUCE(__reduce_or_sync, a | b)
LISA_HOST_REDUCE(__reduce_xor_sync, a ^ b)
#undef LISA_HOST_REDUCE
