// Half-precision storage types and their scalar conversions.  No torch header.
#pragma once
#include <cstdint>
#include <cstring>

namespace lisa {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// Element types a kernel may be asked for.
enum class Dtype : int { kFloat32, kFloat64, kBFloat16, kFloat16 };

// Internal linkage: a kernel file compiled for AVX-512 must not lend its copy to one compiled for less.
static inline float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float to_real(float x) { return x; }
static inline double to_real(double x) { return x; }
static inline float to_real(BFloat16 x) { return bits_to_float(static_cast<uint32_t>(x.bits) << 16); }

static inline float to_real(Float16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t magnitude = x.bits & 0x7fff;
  if (magnitude >= 0x7c00) return bits_to_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);  // inf, NaN
  // Shift exponent and mantissa into place and repair the exponent's bias by a product: subnormals come out right.
  return bits_to_float(sign | float_to_bits(bits_to_float(magnitude << 13) * 0x1p112f));
}

static inline void from_real(float x, float& out) { out = x; }
static inline void from_real(double x, double& out) { out = x; }

static inline void from_real(float x, BFloat16& out) {
  const uint32_t bits = float_to_bits(x);
  const bool is_nan = x != x;
  out.bits = is_nan ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static inline void from_real(float x, Float16& out) {
  const uint32_t bits = float_to_bits(x), sign = (bits >> 16) & 0x8000;
  const float magnitude = bits_to_float(bits & 0x7fffffff);
  uint32_t half;
  if (!(magnitude < 65520.f)) {  // rounds to infinity, or is NaN
    half = magnitude != magnitude ? 0x7e00 : 0x7c00;
  } else if (magnitude < 0x1p-14f) {  // subnormal: the addition rounds to the last place of fp16
    half = float_to_bits(magnitude + 0.5f) - float_to_bits(0.5f);
  } else {
    const uint32_t m = bits & 0x7fffffff;
    half = (m - 0x38000000 + 0xfff + ((m >> 13) & 1)) >> 13;
  }
  out.bits = static_cast<uint16_t>(sign | half);
}

}  // namespace lisa
