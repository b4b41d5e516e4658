// The recursion of CTC over states, one frame at a time, in either direction of time.
//
// A state's value is mantissa * 2^exponent: no exp or log inside the loop over frames and no limit of range, however
// long the audio.  Mantissas are brought back to [1, 2) only every 8 frames; in between a frame multiplies them by
// 0.7 to 4.3.
//
// Blank j stands before label j, and blank S at the end.  Forward in time, blank j is entered from itself and from
// label j-1, and label j from itself, blank j and, unless it would repeat it, label j-1.  Backward in time the same
// picture holds with labels j and j-1 exchanged.  So one step serves both: `near` is the label that joins blank j,
// `own` the label that blank j leads to.
#pragma once
#include "../../core/simd.h"
#include "ctc_rows.h"

namespace lisa::LISA_CAPABILITY {

constexpr int kFramesPerNormalisation = 8;
// Exponents of values other than 0 are held above this: with kLowestEmission, 8 frames on they are still above
// kZeroExponent, and a product of two states fits into the integer.
template <typename Real>
constexpr IntOf<Real> kLowestExponent = -(IntOf<Real>(1) << (sizeof(Real) == 4 ? 28 : 60));
// Emissions over small priors may be above 1: held below this, sums and differences of two fit into the integer.
template <typename Real>
constexpr IntOf<Real> kHighestExponent = -kLowestExponent<Real>;

// A row of states: P blanks, then P labels from index -1 on with `kLanes` entries of room, mantissas and exponents.
template <typename Real>
struct States {
  using Int = IntOf<Real>;
  static constexpr int kLanes = Simd<Real>::kLanes;

  Real* blank;
  Real* label;
  Int* blank_exponent;
  Int* label_exponent;

  static int64_t padded(int64_t labels) { return (labels + 1 + kLanes - 1) / kLanes * kLanes; }
  static int64_t bytes(int64_t P) { return (2 * P + kLanes) * (sizeof(Real) + sizeof(Int)); }

  // `first_label`: where label 0 stands behind the blanks.  A step writes its labels from index 0 on going forward and
  // from -1 on going backward: that one is put on a vector's boundary, since stores across cache lines double a step's
  // time.
  static States at(char* memory, int64_t P, int64_t first_label) {
    Real* mantissas = reinterpret_cast<Real*>(memory);
    Int* exponents = reinterpret_cast<Int*>(mantissas + 2 * P + kLanes);
    return {mantissas, mantissas + P + first_label, exponents, exponents + P + first_label};
  }

  // The two labels that a step does not write, one in each direction.
  void clear_ends(int64_t P) const {
    label[-1] = label[P - 1] = 0;
    label_exponent[-1] = label_exponent[P - 1] = kZeroExponent<Real>;
  }

  void copy_to(const States& other, int64_t P) const { std::memcpy(other.blank, blank, bytes(P)); }

  void clear(int64_t P) const {
    for (int64_t j = 0; j < P; ++j) blank[j] = 0, blank_exponent[j] = kZeroExponent<Real>;
    for (int64_t j = -1; j < P; ++j) label[j] = 0, label_exponent[j] = kZeroExponent<Real>;
  }
};

// A value of either type, for the few that are not worth a vector.
struct Scaled {
  double mantissa;
  int64_t exponent;
};

static inline Scaled operator*(Scaled a, Scaled b) { return {a.mantissa * b.mantissa, a.exponent + b.exponent}; }

static inline Scaled operator+(Scaled a, Scaled b) {
  // The exponent of a 0 says nothing: it may be the larger one.
  if (a.mantissa == 0) return b;
  if (b.mantissa == 0) return a;
  const int64_t e = a.exponent > b.exponent ? a.exponent : b.exponent;
  return {a.mantissa * pow2_or_0(a.exponent - e) + b.mantissa * pow2_or_0(b.exponent - e), e};
}

template <bool kHeldBelow, typename Real>
static inline void normalise_vector(Real* mantissa, IntOf<Real>* exponent) {
  using S = Simd<Real>;
  using Int = IntOf<Real>;
  using IntVec = IntVecOf<Real>;
  const auto m = load(mantissa);
  const IntVec bits = reinterpret_cast<IntVec>(m);
  const IntVec unit = (bits & ((Int(1) << S::kMantissaBits) - 1)) | (Int(S::kBias) << S::kMantissaBits);
  const IntVec moved = load_vector<IntVec>(exponent) + (bits >> S::kMantissaBits) - S::kBias;
  IntVec within = larger(moved, IntVec{} + kLowestExponent<Real>);
  if constexpr (kHeldBelow) {
    const IntVec highest = IntVec{} + kHighestExponent<Real>;
    within = within < highest ? within : highest;
  }
  const IntVec is_zero = m == VecOf<Real>{};
  store(mantissa, is_zero ? VecOf<Real>{} : reinterpret_cast<VecOf<Real>>(unit));
  store_vector(exponent, is_zero ? IntVec{} + kZeroExponent<Real> : within);
}

// `kHeldBelow`: where emissions may be above 1.
template <bool kHeldBelow, typename Real>
static void normalise(const States<Real>& row, int64_t P) {
  constexpr int kLanes = Simd<Real>::kLanes;
  for (int64_t j = 0; j < P; j += kLanes) {
    normalise_vector<kHeldBelow>(row.blank + j, row.blank_exponent + j);
    normalise_vector<kHeldBelow>(row.label + j, row.label_exponent + j);
  }
}

// What a step with posteriors adds: the states of the other direction at the same frame (emission included), the
// exponent of the total, and room for the joint probabilities relative to 2^exponent.
template <typename Real>
struct Posterior {
  States<Real> other;
  IntOf<Real> total_exponent;
  Real* blank;  // [P]
  Real* label;  // from index -1
};

// From the states of one frame to those of the next in the direction's order.  `can_skip[j]` is -1 where label j may
// follow label j-1 directly, else 0.
template <typename Real, bool kForward, bool kPosterior>
static void step(int64_t P, const States<Real>& prev, const States<Real>& next, const Emission<Real>& emission,
                 Real blank_mantissa, IntOf<Real> blank_exponent, const IntOf<Real>* can_skip,
                 const Posterior<Real>* posterior) {
  using Vec = VecOf<Real>;
  using IntVec = IntVecOf<Real>;
  constexpr int kLanes = Simd<Real>::kLanes;
  constexpr int kNear = kForward ? -1 : 0, kOwn = kForward ? 0 : -1;
  const IntVec zero_exponent = IntVec{} + kZeroExponent<Real>;
  for (int64_t j = 0; j < P; j += kLanes) {
    const Vec blank = load(prev.blank + j), near = load(prev.label + j + kNear), own = load(prev.label + j + kOwn);
    const IntVec blank_e = load_vector<IntVec>(prev.blank_exponent + j);
    const IntVec near_e = load_vector<IntVec>(prev.label_exponent + j + kNear);
    const IntVec own_e = load_vector<IntVec>(prev.label_exponent + j + kOwn);

    const IntVec to_blank_e = larger(blank_e, near_e);
    const Vec to_blank = times_pow2<Real>(blank, blank_e - to_blank_e) + times_pow2<Real>(near, near_e - to_blank_e);
    const IntVec skips = load_vector<IntVec>(can_skip + j);
    const Vec entering = skips ? to_blank : blank;
    const IntVec entering_e = skips ? to_blank_e : blank_e;
    const IntVec to_label_e = larger(entering_e, own_e);
    const Vec to_label =
        times_pow2<Real>(entering, entering_e - to_label_e) + times_pow2<Real>(own, own_e - to_label_e);

    if constexpr (kPosterior) {
      // A posterior is at most 1 and a product of mantissas below 2^34: higher exponents come only from values held at
      // kLowestExponent.  The gradient is inexact there, but finite.
      const IntVec highest = IntVec{} + 60;
      const States<Real>& other = posterior->other;
      const IntVec be = load_vector<IntVec>(other.blank_exponent + j) + (to_blank_e - posterior->total_exponent);
      const IntVec le = load_vector<IntVec>(other.label_exponent + j + kOwn) + (to_label_e - posterior->total_exponent);
      store(posterior->blank + j, times_pow2<Real>(to_blank * load(other.blank + j), be < highest ? be : highest));
      store(posterior->label + j + kOwn,
            times_pow2<Real>(to_label * load(other.label + j + kOwn), le < highest ? le : highest));
    }
    store(next.blank + j, to_blank * blank_mantissa);
    store_vector(next.blank_exponent + j, larger(to_blank_e + blank_exponent, zero_exponent));
    store(next.label + j + kOwn, to_label * load(emission.mantissa + j + kOwn));
    const IntVec emission_e = load_vector<IntVec>(emission.exponent + j + kOwn);
    store_vector(next.label_exponent + j + kOwn, larger(to_label_e + emission_e, zero_exponent));
  }
}

}  // namespace lisa::LISA_CAPABILITY
