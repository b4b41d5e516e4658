// Numbers of the recursion: mantissa * 2^exponent, so that no frame needs an exponential or a logarithm and no audio is
// too long.  Limits and their reasons are those of the CPU kernel, ctc_rows.h and ctc_states.h.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace lisa::ctc {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

template <typename Real>
struct Format;
template <>
struct Format<float> {
  using Int = int32_t;
  using Bits = uint32_t;
  static constexpr int kMantissaBits = 23, kBias = 127;
  static constexpr Bits kExponentMask = 0xff;
};
template <>
struct Format<double> {
  using Int = int64_t;
  using Bits = uint64_t;
  static constexpr int kMantissaBits = 52, kBias = 1023;
  static constexpr Bits kExponentMask = 0x7ff;
};

template <typename Real>
using IntOf = typename Format<Real>::Int;

// Exponent that goes with the value 0; below that of any other value.
template <typename Real>
constexpr IntOf<Real> kZeroExponent = -(IntOf<Real>(1) << (sizeof(Real) == 4 ? 29 : 61));
// Exponents of other values are held between this and its opposite when they are normalised.
template <typename Real>
constexpr IntOf<Real> kLowestExponent = -(IntOf<Real>(1) << (sizeof(Real) == 4 ? 28 : 60));
// Base-2 logarithm between which and its opposite an emission is held: so finite logits always give a finite loss.
template <typename Real>
constexpr double kLowestEmission = sizeof(Real) == 4 ? -0x1p24 : -0x1p56;

// One access of 64 bits (fp64: 128).
template <typename Real>
struct alignas(2 * sizeof(Real)) Scaled {
  Real mantissa;
  IntOf<Real> exponent;
};

template <typename Real>
__device__ inline Scaled<Real> scaled_zero() {
  return {Real(0), kZeroExponent<Real>};
}

template <typename T>
__device__ inline T larger(T a, T b) {
  return a > b ? a : b;
}
template <typename T>
__device__ inline T smaller(T a, T b) {
  return a < b ? a : b;
}

__device__ inline float real_from_bits(uint32_t bits) { return __uint_as_float(bits); }
__device__ inline double real_from_bits(uint64_t bits) { return __longlong_as_double(static_cast<long long>(bits)); }
__device__ inline uint32_t bits_of(float x) { return __float_as_uint(x); }
__device__ inline uint64_t bits_of(double x) { return static_cast<uint64_t>(__double_as_longlong(x)); }

// 2^n for n <= 127 (fp64: 1023); 0 where that is below the normal range.
template <typename Real>
__device__ inline Real pow2_or_0(IntOf<Real> n) {
  using F = Format<Real>;
  const auto field = static_cast<typename F::Bits>(larger<IntOf<Real>>(n, -F::kBias) + F::kBias);
  return real_from_bits(static_cast<typename F::Bits>(field << F::kMantissaBits));
}

template <typename Real>
__device__ inline Scaled<Real> operator+(Scaled<Real> a, Scaled<Real> b) {
  const IntOf<Real> e = larger(a.exponent, b.exponent);
  return {a.mantissa * pow2_or_0<Real>(a.exponent - e) + b.mantissa * pow2_or_0<Real>(b.exponent - e), e};
}

// A state times an emission.
template <typename Real>
__device__ inline Scaled<Real> emit(Scaled<Real> state, Scaled<Real> emission) {
  return {state.mantissa * emission.mantissa,
          larger<IntOf<Real>>(state.exponent + emission.exponent, kZeroExponent<Real>)};
}

// Mantissa to [1, 2); NaN stays NaN.
template <typename Real>
__device__ inline Scaled<Real> normalised(Scaled<Real> x) {
  using F = Format<Real>;
  using Bits = typename F::Bits;
  const Bits field = (bits_of(x.mantissa) >> F::kMantissaBits) & F::kExponentMask;
  // Of NaN this is an infinity, and their product is NaN.
  const Bits inverse = (Bits(2 * F::kBias) - field) << F::kMantissaBits;
  const IntOf<Real> moved = x.exponent + static_cast<IntOf<Real>>(field) - F::kBias;
  return {x.mantissa * real_from_bits(inverse),
          x.mantissa == Real(0)
              ? kZeroExponent<Real>
              : smaller<IntOf<Real>>(larger<IntOf<Real>>(moved, kLowestExponent<Real>), -kLowestExponent<Real>)};
}

// The joint probability a * b / 2^total as a plain number.  It is at most 1 and a product of mantissas below 2^34:
// higher exponents come only from values held at the lowest exponent; the gradient is inexact there, but finite.
template <typename Real>
__device__ inline Real joint(Scaled<Real> a, Scaled<Real> b, IntOf<Real> total) {
  const IntOf<Real> e = smaller<IntOf<Real>>(a.exponent + b.exponent - total, 60);
  return a.mantissa * b.mantissa * pow2_or_0<Real>(e);
}

// A value of either type, for the few that are not worth speed.
struct Wide {
  double mantissa;
  int64_t exponent;
};

template <typename Real>
__device__ inline Wide widened(Scaled<Real> x) {
  return {static_cast<double>(x.mantissa), static_cast<int64_t>(x.exponent)};
}
__device__ inline Wide operator*(Wide a, Wide b) { return {a.mantissa * b.mantissa, a.exponent + b.exponent}; }
__device__ inline Wide operator+(Wide a, Wide b) {
  // The exponent of a 0 says nothing: it may be the larger one.
  if (a.mantissa == 0) return b;
  if (b.mantissa == 0) return a;
  const int64_t e = larger(a.exponent, b.exponent);
  return {a.mantissa * pow2_or_0<double>(a.exponent - e) + b.mantissa * pow2_or_0<double>(b.exponent - e), e};
}

// 2^r for |r| <= 1/2.  float: the polynomial of core/simd.h, 2.0e-9; the hardware's ex2 has 1e-7.
__device__ inline float exp2_centred(float r) {
  float p = 1.535336050e-04f;
  p = p * r + 1.339887502e-03f;
  p = p * r + 9.618436918e-03f;
  p = p * r + 5.550332367e-02f;
  p = p * r + 2.402264774e-01f;
  p = p * r + 6.931471825e-01f;
  return p * r + 1.0f;
}
__device__ inline double exp2_centred(double r) { return exp2(r); }

__device__ inline float to_real(float x) { return x; }
__device__ inline double to_real(double x) { return x; }
__device__ inline float to_real(__half x) { return __half2float(x); }
__device__ inline float to_real(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline void from_real(float x, float& out) { out = x; }
__device__ inline void from_real(double x, double& out) { out = x; }
__device__ inline void from_real(float x, __half& out) { out = __float2half_rn(x); }
__device__ inline void from_real(float x, __nv_bfloat16& out) { out = __float2bfloat16_rn(x); }

template <typename In>
using RealOf = decltype(to_real(In()));

__device__ inline float exp_of(float x) { return expf(x); }
__device__ inline double exp_of(double x) { return exp(x); }
__device__ inline float log_of(float x) { return logf(x); }
__device__ inline double log_of(double x) { return log(x); }
__device__ inline float expm1_of(float x) { return expm1f(x); }
__device__ inline double expm1_of(double x) { return expm1(x); }
__device__ inline float not_a_number(float) { return __uint_as_float(0x7fc00000u); }
__device__ inline double not_a_number(double) { return __longlong_as_double(0x7ff8000000000000ll); }
template <typename Real>
__device__ inline Real infinity() {
  using F = Format<Real>;
  return real_from_bits(static_cast<typename F::Bits>(F::kExponentMask << F::kMantissaBits));
}

}  // namespace lisa::ctc
