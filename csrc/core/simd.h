// Vectors for CPU kernels, on the vector extension of GCC and Clang; intrinsics only where it has no word for an
// instruction.  A file that includes this header is compiled once for each CPU capability, with LISA_CAPABILITY naming
// the namespace (baseline, avx2, avx512).  Everything here lives in that namespace, and such files use no inline
// function of the standard library: the linker keeps one copy of those for all, and might keep the AVX-512 one.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "dtype.h"

namespace lisa::LISA_CAPABILITY {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T, int kLanes>
struct VectorOf {
  typedef T type __attribute__((vector_size(kLanes * sizeof(T))));
};

// The lanes of a computation in Real: Vec holds Real, IntVec integers of the same size.
template <typename Real>
struct Simd;

template <>
struct Simd<float> {
  using Int = int32_t;
  static constexpr int kLanes = kVectorBytes / 4;
  static constexpr int kMantissaBits = 23, kBias = 127;
};

template <>
struct Simd<double> {
  using Int = int64_t;
  static constexpr int kLanes = kVectorBytes / 8;
  static constexpr int kMantissaBits = 52, kBias = 1023;
};

template <typename Real>
using IntOf = typename Simd<Real>::Int;
template <typename Real>
using VecOf = typename VectorOf<Real, Simd<Real>::kLanes>::type;
template <typename Real>
using IntVecOf = typename VectorOf<IntOf<Real>, Simd<Real>::kLanes>::type;

template <typename Vec, typename T>
static inline Vec load_vector(const T* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <typename Vec, typename T>
static inline void store_vector(T* p, Vec v) {
  std::memcpy(p, &v, sizeof v);
}

template <typename Vec>
static inline Vec larger(Vec a, Vec b) {
  return a > b ? a : b;
}

static inline void prefetch(const void* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(p) + i);
}

// --- elements of any storage type as a vector of Real ------------------------------------------------------------

static inline VecOf<float> load(const float* p) { return load_vector<VecOf<float>>(p); }
static inline VecOf<double> load(const double* p) { return load_vector<VecOf<double>>(p); }
static inline void store(float* p, VecOf<float> v) { store_vector(p, v); }
static inline void store(double* p, VecOf<double> v) { store_vector(p, v); }

using HalfBits = VectorOf<uint16_t, Simd<float>::kLanes>::type;
using FloatBits = VectorOf<uint32_t, Simd<float>::kLanes>::type;

static inline VecOf<float> load(const BFloat16* p) {
  return reinterpret_cast<VecOf<float>>(__builtin_convertvector(load_vector<HalfBits>(p), FloatBits) << 16);
}

static inline void store(BFloat16* p, VecOf<float> v) {
  const FloatBits bits = reinterpret_cast<FloatBits>(v);
  const FloatBits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const FloatBits nan = FloatBits{} + 0x7fc0;
  store_vector(p, __builtin_convertvector(v != v ? nan : rounded, HalfBits));
}

static inline VecOf<float> load(const Float16* p) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(load_vector<__m256i>(p));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(load_vector<__m128i>(p));
#else
  float lanes[Simd<float>::kLanes];
  for (int i = 0; i < Simd<float>::kLanes; ++i) lanes[i] = to_real(p[i]);
  return load(lanes);
#endif
}

static inline void store(Float16* p, VecOf<float> v) {
#if defined(__AVX512F__)
  store_vector(p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  store_vector(p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#else
  float lanes[Simd<float>::kLanes];
  store(lanes, v);
  for (int i = 0; i < Simd<float>::kLanes; ++i) from_real(lanes[i], p[i]);
#endif
}

// To an aligned address, past the caches where the machine can.
static inline void stream(float* p, VecOf<float> v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, v);
#elif defined(__AVX2__)
  _mm256_stream_ps(p, v);
#elif defined(__SSE2__)
  _mm_stream_ps(p, v);
#else
  store(p, v);
#endif
}

// Makes streamed values visible to other threads.
static inline void finish_streaming() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// The first `count` elements; the other lanes hold `filler`.
template <typename Real, typename In>
static inline VecOf<Real> load_some(const In* p, int count, Real filler) {
  Real lanes[Simd<Real>::kLanes];
  for (int i = 0; i < Simd<Real>::kLanes; ++i) lanes[i] = i < count ? to_real(p[i]) : filler;
  return load(lanes);
}

template <typename Real, typename Out>
static inline void store_some(Out* p, VecOf<Real> v, int count) {
  Real lanes[Simd<Real>::kLanes];
  store(lanes, v);
  for (int i = 0; i < count; ++i) from_real(lanes[i], p[i]);
}

// --- reductions over lanes, in a fixed order ---------------------------------------------------------------------

template <typename Real>
static inline Real sum_lanes(VecOf<Real> v) {
  Real lanes[Simd<Real>::kLanes];
  store(lanes, v);
  for (int width = Simd<Real>::kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  return lanes[0];
}

// The same in fp64.
template <typename Real>
static inline double sum_lanes_in_fp64(const VecOf<Real> (&v)[4]) {
  constexpr int kLanes = Simd<Real>::kLanes;
  using Wide = typename VectorOf<double, kLanes>::type;
  const Wide sum = (__builtin_convertvector(v[0], Wide) + __builtin_convertvector(v[1], Wide)) +
                   (__builtin_convertvector(v[2], Wide) + __builtin_convertvector(v[3], Wide));
  double lanes[kLanes];
  std::memcpy(lanes, &sum, sizeof sum);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  return lanes[0];
}

template <typename Real>
static inline Real max_lanes(VecOf<Real> v) {
  Real lanes[Simd<Real>::kLanes];
  store(lanes, v);
  for (int width = Simd<Real>::kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lanes[i] = lanes[i + width] > lanes[i] ? lanes[i + width] : lanes[i];
  return lanes[0];
}

// --- powers of two -----------------------------------------------------------------------------------------------

// x * 2^n for n <= 127 (fp64: 1023); 0 where the power is below the normal range.
template <typename Real>
static inline VecOf<Real> times_pow2(VecOf<Real> x, IntVecOf<Real> n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Real) == 4) return _mm512_scalef_ps(x, _mm512_cvtepi32_ps(reinterpret_cast<__m512i>(n)));
#endif
  using S = Simd<Real>;
  const IntVecOf<Real> lowest = IntVecOf<Real>{} - S::kBias;
  return x * reinterpret_cast<VecOf<Real>>((larger(n, lowest) + S::kBias) << S::kMantissaBits);
}

// 2^n for n <= 0, or 0 where that is below the normal range of fp64.
static inline double pow2_or_0(int64_t n) {
  const int64_t bits = n < -1022 ? 0 : (n + 1023) << 52;
  double power;
  std::memcpy(&power, &bits, sizeof power);
  return power;
}

// The nearest whole number, for |x| < 2^22 (fp64: 2^51), of a number or a vector of numbers.
template <typename Real, typename T>
static inline T round_to_whole(T x) {
  // Adding 1.5 * 2^mantissa_bits leaves no bits for the fraction.
  const Real shift = sizeof(Real) == 4 ? Real(0x1.8p23) : Real(0x1.8p52);
  return (x + shift) - shift;
}

// Polynomials for 2^r, of a float or a vector of floats: own minimax fits in relative error (Lawson's iteration at 2000
// Chebyshev nodes).  For r in [0, 1], exact at both ends: 9.2e-8.
template <typename T>
static inline T exp2_unit(T r) {
  T p = T{} + 1.879318617e-03f;
  p = p * r + 8.990995586e-03f;
  p = p * r + 5.581867695e-02f;
  p = p * r + 2.401592731e-01f;
  p = p * r + 6.931517124e-01f;
  return p * r + 1.0f;
}

// For r in [-1/2, 1/2], exact at 0: 2.0e-9.
template <typename T>
static inline T exp2_centred(T r) {
  T p = T{} + 1.535336050e-04f;
  p = p * r + 1.339887502e-03f;
  p = p * r + 9.618436918e-03f;
  p = p * r + 5.550332367e-02f;
  p = p * r + 2.402264774e-01f;
  p = p * r + 6.931471825e-01f;
  return p * r + 1.0f;
}

// exp(x) for x <= 0; exp(-inf) is 0, NaN stays NaN.  Relative error 1.6e-7 of exact arguments; below 2^-126 it is 0.
static inline VecOf<float> exp_nonpositive(VecOf<float> x) {
  const VecOf<float> y = x * 1.442695041f;
#if defined(__AVX512F__)
  // Fraction above the floor, and scaling by the floor, are one instruction each.
  const VecOf<float> r = _mm512_reduce_ps(y, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  return _mm512_scalef_ps(exp2_unit(r), y);
#else
  const VecOf<float> lowest = VecOf<float>{} - 127.f;
  const VecOf<float> held = y < lowest ? lowest : y;
  const VecOf<float> whole = round_to_whole<float>(held - 0.5f);
  return times_pow2<float>(exp2_unit(held - whole), __builtin_convertvector(whole, IntVecOf<float>));
#endif
}

static inline VecOf<double> exp_nonpositive(VecOf<double> x) {
  double lanes[Simd<double>::kLanes];
  store(lanes, x);
  for (double& lane : lanes) lane = __builtin_exp(lane);
  return load(lanes);
}

}  // namespace lisa::LISA_CAPABILITY
