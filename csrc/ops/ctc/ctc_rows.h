// Dense passes over rows of logits: softmax statistics, emissions of the target's labels, gradient.
#pragma once
#include "../../core/simd.h"
#include "ctc.h"

namespace lisa::LISA_CAPABILITY {

// Softmax of a row is exp((x - max) - log_sum).  Two numbers: one log-sum-exp loses 2 digits at |x| = 3000 in fp32.
template <typename Real>
struct RowStatistics {
  Real max, log_sum;
};

// Four chains hide the latency of an addition.
template <typename Real>
using Chains = VecOf<Real>[4];

// Neighbouring classes of a row: whole vectors, and a tail filled up with -inf.
template <typename Real, typename In>
struct Stretch {
  const In* x;
  int64_t whole;  // classes before the tail
  VecOf<Real> tail;

  static Stretch of(const In* x, int64_t count) {
    constexpr int kLanes = Simd<Real>::kLanes;
    const int64_t whole = count / kLanes * kLanes;
    return {x, whole, load_some<Real>(x + whole, static_cast<int>(count - whole), Real(-__builtin_inf()))};
  }
};

template <typename Real, typename In>
static inline void find_largest(const Stretch<Real, In>& row, Chains<Real>& m) {
  constexpr int kLanes = Simd<Real>::kLanes;
  int64_t c = 0;
  for (; c + 4 * kLanes <= row.whole; c += 4 * kLanes)
    for (int k = 0; k < 4; ++k) m[k] = larger(load(row.x + c + k * kLanes), m[k]);
  for (; c < row.whole; c += kLanes) m[0] = larger(load(row.x + c), m[0]);
  m[1] = larger(row.tail, m[1]);
}

template <typename Real>
static inline Real largest(const Chains<Real>& m) {
  return max_lanes<Real>(larger(larger(m[0], m[1]), larger(m[2], m[3])));
}

// Logits this far below the largest have an exponential of 0 in either precision; the product of both is 0, not NaN.
template <typename Real>
static inline VecOf<Real> held(VecOf<Real> d) {
  const VecOf<Real> lowest = VecOf<Real>{} - Real(2000);
  return d > lowest ? d : lowest;
}

// Adds exp(x - max) to `s` and, with moments, exp(x - max) * (x - max) to `a`.
//
// `ahead` is the row that is read next, fetched meanwhile: the rows of an utterance lie far apart in [T, N, C], where
// the hardware does not foresee them (2.2 instead of 1.4 ms for 8000 rows of 1000 floats on one core).
template <bool kMoments, typename Real, typename In>
static inline void add_exps(const Stretch<Real, In>& row, const In* ahead, Real max, Chains<Real>& s, Chains<Real>& a) {
  constexpr int kLanes = Simd<Real>::kLanes;
  const auto add = [&](VecOf<Real> x, int k) {
    const VecOf<Real> e = exp_nonpositive(x - max);
    s[k] += e;
    if constexpr (kMoments) a[k] += e * held<Real>(x - max);
  };
  int64_t c = 0;
  for (; c + 4 * kLanes <= row.whole; c += 4 * kLanes) {
    for (int k = 0; k < 4; ++k) {
      __builtin_prefetch(ahead + c + k * kLanes);
      add(load(row.x + c + k * kLanes), k);
    }
  }
  for (; c < row.whole; c += kLanes) add(load(row.x + c), 0);
  add(row.tail, 1);
}

template <typename Real, typename In>
static inline RowStatistics<Real> row_statistics(const In* x, const In* ahead, int64_t classes) {
  const auto row = Stretch<Real, In>::of(x, classes);
  Chains<Real> m, s, unused;
  for (int k = 0; k < 4; ++k) m[k] = VecOf<Real>{} - Real(__builtin_inf()), s[k] = VecOf<Real>{};
  find_largest(row, m);
  const Real max = largest<Real>(m);
  add_exps<false>(row, ahead, max, s, unused);
  // On a confident model the sum is 1 and little more: rounded to fp32 at each addition it would move all
  // probabilities.
  return {max, static_cast<Real>(__builtin_log(sum_lanes_in_fp64<Real>(s)))};
}

// Emissions of one frame as mantissa * 2^exponent.  The arrays of labels start at index -1; entries outside the target
// hold 0, so that the recursion needs no masks.
template <typename Real>
struct Emission {
  Real* mantissa;
  IntOf<Real>* exponent;
};

// Base-2 logarithm between which and its opposite an emission is held: so finite logits always give a finite loss.
template <typename Real>
constexpr double kLowestEmission = sizeof(Real) == 4 ? -0x1p24 : -0x1p56;
// Exponent that goes with the value 0; below that of any other value.
template <typename Real>
constexpr IntOf<Real> kZeroExponent = -(IntOf<Real>(1) << (sizeof(Real) == 4 ? 29 : 61));

static inline float exp2_precise(float r) { return exp2_centred(r); }
static inline double exp2_precise(double r) { return __builtin_exp2(r); }

// 2^y, for y up to -kLowestEmission.
template <typename Real>
static inline void split(double y, Real& mantissa, IntOf<Real>& exponent) {
  const bool impossible = y == -__builtin_inf();
  const double held = y < kLowestEmission<Real> ? kLowestEmission<Real> : y;
  const double whole = round_to_whole<double>(held);
  const Real fraction = exp2_precise(static_cast<Real>(held - whole));
  mantissa = impossible ? Real(0) : fraction;
  exponent = impossible ? kZeroExponent<Real> : static_cast<IntOf<Real>>(whole);
}

// The same for any y: an emission over a prior may be above 1.
template <typename Real>
static inline void split_any(double y, Real& mantissa, IntOf<Real>& exponent) {
  split(y > -kLowestEmission<Real> ? -kLowestEmission<Real> : y, mantissa, exponent);
}

constexpr double kLog2E = 1.4426950408889634;

// From logits, in place of the mantissas, to emissions.  In fp64 up to the fraction: in fp32 the rounding of
// (x - max) * log2(e) alone is 5e-7 of a probability near e^-10, as large as all other errors together.
template <typename Real>
static inline void split_emissions(Real* __restrict mantissa, IntOf<Real>* __restrict exponent, int64_t count,
                                   RowStatistics<Real> row) {
  const double max = row.max, log2_sum = row.log_sum * kLog2E;
  for (int64_t i = 0; i < count; ++i) split((mantissa[i] - max) * kLog2E - log2_sum, mantissa[i], exponent[i]);
}

// The same, each emission over a prior, whose base-2 logarithms are given.
template <typename Real>
static inline void split_emissions(Real* __restrict mantissa, IntOf<Real>* __restrict exponent, int64_t count,
                                   RowStatistics<Real> row, const double* __restrict log2_priors) {
  const double max = row.max, log2_sum = row.log_sum * kLog2E;
  for (int64_t i = 0; i < count; ++i)
    split_any((mantissa[i] - max) * kLog2E - log2_sum - log2_priors[i], mantissa[i], exponent[i]);
}

// out = softmax(x).
template <typename Real, typename In>
static inline void row_softmax(const In* x, Real* out, int64_t classes, RowStatistics<Real> row) {
  constexpr int kLanes = Simd<Real>::kLanes;
  const Real scale = static_cast<Real>(__builtin_exp(-static_cast<double>(row.log_sum)));
  int64_t c = 0;
  for (; c + kLanes <= classes; c += kLanes) store(out + c, exp_nonpositive(load(x + c) - row.max) * scale);
  if (c == classes) return;
  const int rest = static_cast<int>(classes - c);
  const VecOf<Real> tail = load_some<Real>(x + c, rest, row.max);
  store_some<Real>(out + c, exp_nonpositive(tail - row.max) * scale, rest);
}

// Gradients from this size on are written past the caches: they would not stay in them, and a line written whole need
// not be read first.
constexpr int64_t kStreamedBytes = 8 << 20;

// out = weight * row, rounded to the type of `out`.
template <typename Real, typename Out>
static inline void write_row(const Real* row, Real weight, Out* out, int64_t classes, bool /*bypass_cache*/) {
  constexpr int kLanes = Simd<Real>::kLanes;
  int64_t c = 0;
  for (; c + kLanes <= classes; c += kLanes) store(out + c, load(row + c) * weight);
  for (; c < classes; ++c) from_real(row[c] * weight, out[c]);
}

static inline void write_row(const float* row, float weight, float* out, int64_t classes, bool bypass_cache) {
  if (!bypass_cache) return write_row<float, float>(row, weight, out, classes, false);
  constexpr int kLanes = Simd<float>::kLanes;
  int64_t c = 0;
  for (; c < classes && reinterpret_cast<uintptr_t>(out + c) % kVectorBytes != 0; ++c) out[c] = row[c] * weight;
  for (; c + kLanes <= classes; c += kLanes) stream(out + c, load(row + c) * weight);
  for (; c < classes; ++c) out[c] = row[c] * weight;
}

}  // namespace lisa::LISA_CAPABILITY
