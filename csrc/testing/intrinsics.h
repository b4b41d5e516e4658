// Device functions without a counterpart in <cmath>: bits, casts, rounding, fast maths, cache hints.
#pragma once
#include <bit>
#include <cfenv>
#include <ctime>

#include "barrier.h"
#include "block.h"

// Bits.
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; bit++) reversed |= (x >> bit & 1) << (31 - bit);
  return reversed;
}
inline unsigned long long __brevll(unsigned long long x) {
  return static_cast<unsigned long long>(__brev(static_cast<unsigned>(x))) << 32 |
         __brev(static_cast<unsigned>(x >> 32));
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const uint64_t bytes = uint64_t{high} << 32 | low;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) result |= static_cast<unsigned>(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((uint64_t{high} << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((uint64_t{high} << 32 | low) >> (shift & 31));
}
inline int __mulhi(int a, int b) { return static_cast<int>(int64_t{a} * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}

// Casts of bits.
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }

// Conversions, in range; outside of it the hardware saturates.
namespace lisa_host {
template <class Integer, class Real>
Integer saturate(Real rounded) {
  using Limits = std::numeric_limits<Integer>;
  if (!(rounded == rounded)) return 0;
  if (rounded <= static_cast<Real>(Limits::min())) return Limits::min();
  if (rounded >= static_cast<Real>(Limits::max())) return Limits::max();
  return static_cast<Integer>(rounded);
}
}  // namespace lisa_host
inline int __float2int_rn(float x) { return ::lisa_host::saturate<int>(std::nearbyint(x)); }
inline int __float2int_rz(float x) { return ::lisa_host::saturate<int>(std::trunc(x)); }
inline int __float2int_rd(float x) { return ::lisa_host::saturate<int>(std::floor(x)); }
inline int __float2int_ru(float x) { return ::lisa_host::saturate<int>(std::ceil(x)); }
inline unsigned __float2uint_rn(float x) { return ::lisa_host::saturate<unsigned>(std::nearbyint(x)); }
inline unsigned __float2uint_rz(float x) { return ::lisa_host::saturate<unsigned>(std::trunc(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

// Arithmetic that is never contracted, rounded to nearest even; the fast versions are computed exactly here.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
// Macros, because the C library declares functions of these names for itself.
#define __expf(x) ::expf(x)
#define __exp10f(x) ::exp10f(x)
#define __logf(x) ::logf(x)
#define __log2f(x) ::log2f(x)
#define __log10f(x) ::log10f(x)
#define __powf(x, y) ::powf(x, y)
#define __sinf(x) ::sinf(x)
#define __cosf(x) ::cosf(x)
#define __tanf(x) ::tanf(x)

// Loads and stores with a cache hint.
#define LISA_HOST_LOAD(name) \
  template <class T>         \
  T name(const T* address) { \
    return *address;         \
  }
#define LISA_HOST_STORE(name)                            \
  template <class T>                                     \
  void name(T* address, std::type_identity_t<T> value) { \
    *address = value;                                    \
  }
LISA_HOST_LOAD(__ldg)
LISA_HOST_LOAD(__ldca)
LISA_HOST_LOAD(__ldcg)
LISA_HOST_LOAD(__ldcs)
LISA_HOST_LOAD(__ldcv)
LISA_HOST_LOAD(__ldlu)
LISA_HOST_STORE(__stcg)
LISA_HOST_STORE(__stcs)
LISA_HOST_STORE(__stwb)
LISA_HOST_STORE(__stwt)
#undef LISA_HOST_LOAD
#undef LISA_HOST_STORE

// Waiting and giving up.
inline void __nanosleep(unsigned) { ::lisa_host::spin(); }
[[noreturn]] inline void __trap(LISA_HOST_WHERE) { ::lisa_host::fail("trap", "__trap, " + ::lisa_host::place(where)); }

// In a kernel a failed assertion ends the launch, in host code the process.
#undef assert
#define assert(condition)                       \
  ((condition) ? (void)0                        \
               : ::lisa_host::fail("assertion", \
                                   "assertion `" #condition "` failed, " __FILE__ ":" + std::to_string(__LINE__)))
