// Integer functions of device code beyond bits: averages, products of 24 bits, dot products, and words taken as two or
// four small integers (CUDA Math API, "Integer Intrinsics", "SIMD Intrinsics").
#pragma once
#include <cuda_runtime_api.h>

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <type_traits>

// The lower 24 bits of each factor, the lower 32 of the product.
inline int __mul24(int a, int b) {
  const int64_t low_a = static_cast<int>(static_cast<unsigned>(a) << 8) >> 8;
  const int64_t low_b = static_cast<int>(static_cast<unsigned>(b) << 8) >> 8;
  return static_cast<int>(low_a * low_b);
}
inline unsigned __umul24(unsigned a, unsigned b) {
  return static_cast<unsigned>(uint64_t{a & 0xffffffu} * (b & 0xffffffu));
}
inline long long __mul64hi(long long a, long long b) {
  return static_cast<long long>(static_cast<__int128>(a) * b >> 64);
}
inline unsigned __sad(int a, int b, unsigned sum) { return static_cast<unsigned>(std::abs(int64_t{a} - b)) + sum; }
inline unsigned __usad(unsigned a, unsigned b, unsigned sum) { return (a > b ? a - b : b - a) + sum; }

// Averages that do not overflow, rounded down, or to the nearest and up.
inline int __hadd(int a, int b) { return static_cast<int>((int64_t{a} + b) >> 1); }
inline int __rhadd(int a, int b) { return static_cast<int>((int64_t{a} + b + 1) >> 1); }
inline unsigned __uhadd(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} + b) >> 1); }
inline unsigned __urhadd(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} + b + 1) >> 1); }

namespace lisa_host {

template <class Part>
Part part_of(unsigned word, int i) {
  return static_cast<Part>(word >> 8 * sizeof(Part) * i);
}

// Applies `combine` to each pair of parts, as int, and keeps the lower bits of what it returns.
template <class Part, class Combine>
unsigned by_parts(unsigned a, unsigned b, Combine combine) {
  unsigned result = 0;
  for (size_t i = 0; i < 4 / sizeof(Part); i++) {
    const int both = combine(int{part_of<Part>(a, i)}, int{part_of<Part>(b, i)});
    result |= unsigned{static_cast<std::make_unsigned_t<Part>>(both)} << 8 * sizeof(Part) * i;
  }
  return result;
}

template <class Part>
int clamped(int value) {
  constexpr int kLeast = std::numeric_limits<Part>::min(), kMost = std::numeric_limits<Part>::max();
  return value < kLeast ? kLeast : value > kMost ? kMost : value;
}

template <class Part>
unsigned sum_of_differences(unsigned a, unsigned b) {
  unsigned sum = 0;
  for (size_t i = 0; i < 4 / sizeof(Part); i++) sum += std::abs(int{part_of<Part>(a, i)} - part_of<Part>(b, i));
  return sum;
}

// Parts of `a`, 16 bits or 8, by the parts of 8 bits of `b` that begin with `first`.
template <class PartA, class PartB>
unsigned dot(unsigned a, unsigned b, unsigned sum, int first) {
  for (size_t i = 0; i < 4 / sizeof(PartA); i++)
    sum += static_cast<unsigned>(int{part_of<PartA>(a, i)} * part_of<PartB>(b, first + i));
  return sum;
}

}  // namespace lisa_host

#define LISA_HOST_DOT(name, PartA, PartB, VectorA, VectorB, Word, first)                                            \
  inline Word name(Word a, Word b, Word sum) {                                                                      \
    return static_cast<Word>(::lisa_host::dot<PartA, PartB>(a, b, sum, first));                                     \
  }                                                                                                                 \
  inline Word name(VectorA a, VectorB b, Word sum) {                                                                \
    return name(static_cast<Word>(std::bit_cast<unsigned>(a)), static_cast<Word>(std::bit_cast<unsigned>(b)), sum); \
  }
LISA_HOST_DOT(__dp4a, int8_t, int8_t, char4, char4, int, 0)
LISA_HOST_DOT(__dp4a, uint8_t, uint8_t, uchar4, uchar4, unsigned, 0)
LISA_HOST_DOT(__dp2a_lo, int16_t, int8_t, short2, char4, int, 0)
LISA_HOST_DOT(__dp2a_lo, uint16_t, uint8_t, ushort2, uchar4, unsigned, 0)
LISA_HOST_DOT(__dp2a_hi, int16_t, int8_t, short2, char4, int, 2)
LISA_HOST_DOT(__dp2a_hi, uint16_t, uint8_t, ushort2, uchar4, unsigned, 2)
#undef LISA_HOST_DOT

// One function for parts of 16 bits, name2, and one for parts of 8, name4; `a` and `b` are two of them.
#define LISA_HOST_PARTS(name, part16, part8, expression)                                               \
  inline unsigned name##2(unsigned left, unsigned right) {                                             \
    using Part [[maybe_unused]] = part16;                                                              \
    return ::lisa_host::by_parts<part16>(left, right, [](int a, int b) -> int { return expression; }); \
  }                                                                                                    \
  inline unsigned name##4(unsigned left, unsigned right) {                                             \
    using Part [[maybe_unused]] = part8;                                                               \
    return ::lisa_host::by_parts<part8>(left, right, [](int a, int b) -> int { return expression; });  \
  }
#define LISA_HOST_SIGNED(name, expression) LISA_HOST_PARTS(name, int16_t, int8_t, expression)
#define LISA_HOST_UNSIGNED(name, expression) LISA_HOST_PARTS(name, uint16_t, uint8_t, expression)
LISA_HOST_UNSIGNED(__vadd, a + b)
LISA_HOST_SIGNED(__vaddss, ::lisa_host::clamped<Part>(a + b))
LISA_HOST_UNSIGNED(__vaddus, ::lisa_host::clamped<Part>(a + b))
LISA_HOST_UNSIGNED(__vsub, a - b)
LISA_HOST_SIGNED(__vsubss, ::lisa_host::clamped<Part>(a - b))
LISA_HOST_UNSIGNED(__vsubus, ::lisa_host::clamped<Part>(a - b))
// Halves go away from zero.
LISA_HOST_SIGNED(__vavgs, (a + b + (a + b >= 0)) >> 1)
LISA_HOST_UNSIGNED(__vavgu, (a + b + 1) / 2)
LISA_HOST_UNSIGNED(__vhaddu, (a + b) / 2)
LISA_HOST_SIGNED(__vabsdiffs, std::abs(a - b))
LISA_HOST_UNSIGNED(__vabsdiffu, std::abs(a - b))
LISA_HOST_SIGNED(__vmaxs, a > b ? a : b)
LISA_HOST_UNSIGNED(__vmaxu, a > b ? a : b)
LISA_HOST_SIGNED(__vmins, a < b ? a : b)
LISA_HOST_UNSIGNED(__vminu, a < b ? a : b)
// Comparisons: all bits of a part, or its lowest alone.
#define LISA_HOST_COMPARE(parts, relation, expression) \
  parts(__vcmp##relation, (expression) ? -1 : 0) parts(__vset##relation, (expression) ? 1 : 0)
LISA_HOST_COMPARE(LISA_HOST_UNSIGNED, eq, a == b)
LISA_HOST_COMPARE(LISA_HOST_UNSIGNED, ne, a != b)
LISA_HOST_COMPARE(LISA_HOST_SIGNED, ges, a >= b)
LISA_HOST_COMPARE(LISA_HOST_SIGNED, gts, a > b)
LISA_HOST_COMPARE(LISA_HOST_SIGNED, les, a <= b)
LISA_HOST_COMPARE(LISA_HOST_SIGNED, lts, a < b)
LISA_HOST_COMPARE(LISA_HOST_UNSIGNED, geu, a >= b)
LISA_HOST_COMPARE(LISA_HOST_UNSIGNED, gtu, a > b)
LISA_HOST_COMPARE(LISA_HOST_UNSIGNED, leu, a <= b)
LISA_HOST_COMPARE(LISA_HOST_UNSIGNED, ltu, a < b)
#undef LISA_HOST_COMPARE
#undef LISA_HOST_UNSIGNED
#undef LISA_HOST_SIGNED
#undef LISA_HOST_PARTS

// Of one word: -x and |x| wrap, or clamp where the name ends in ss.
inline unsigned __vneg2(unsigned x) { return __vsub2(0, x); }
inline unsigned __vneg4(unsigned x) { return __vsub4(0, x); }
inline unsigned __vnegss2(unsigned x) { return __vsubss2(0, x); }
inline unsigned __vnegss4(unsigned x) { return __vsubss4(0, x); }
inline unsigned __vabs2(unsigned x) { return __vabsdiffs2(x, 0); }
inline unsigned __vabs4(unsigned x) { return __vabsdiffs4(x, 0); }
inline unsigned __vabsss2(unsigned x) { return __vmaxs2(x, __vnegss2(x)); }
inline unsigned __vabsss4(unsigned x) { return __vmaxs4(x, __vnegss4(x)); }

inline unsigned __vsads2(unsigned a, unsigned b) { return ::lisa_host::sum_of_differences<int16_t>(a, b); }
inline unsigned __vsads4(unsigned a, unsigned b) { return ::lisa_host::sum_of_differences<int8_t>(a, b); }
inline unsigned __vsadu2(unsigned a, unsigned b) { return ::lisa_host::sum_of_differences<uint16_t>(a, b); }
inline unsigned __vsadu4(unsigned a, unsigned b) { return ::lisa_host::sum_of_differences<uint8_t>(a, b); }
