// One utterance of T frames and S labels, from its logits to loss and posteriors.
//
// It is walked from both ends at once.  In the first half of its steps a direction stores its states; where the two
// meet, the total probability follows; in the second half each direction multiplies its states with the stored ones of
// the other and writes the posteriors.  The two directions may run on two threads; no result depends on that.
#pragma once
#include "../../core/arena.h"
#include "ctc.h"
#include "ctc_row_terms.h"
#include "ctc_rows.h"
#include "ctc_states.h"

namespace lisa::LISA_CAPABILITY {

// Stored states of one direction up to this size stay in the L2 cache; longer ones are recomputed from checkpoints.
constexpr int64_t kStoredBytes = 512 * 1024;

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <typename Real>
struct Utterance;

// One direction in time: forward (alpha) or backward (beta).
template <typename Real, bool kForward>
struct Direction {
  using Int = IntOf<Real>;

  int64_t half;  // steps before the meeting
  // Rows of states: `chunk` consecutive ones, a checkpoint before each chunk, and two that take turns.
  int64_t chunk, checkpoints, row_bytes;
  int64_t chunk_in_memory;
  char* rows;
  Real* posterior_blank;  // [P]
  Real* posterior_label;  // [P], from index -1

  void lay_out(int64_t steps, int64_t P, bool save, Arena& arena);
  void clear(int64_t P);
  void walk_to_meeting(const Utterance<Real>& u);
  void walk_from_meeting(const Utterance<Real>& u, Direction<Real, !kForward>& other);
  States<Real> states_after(const Utterance<Real>& u, int64_t i);
  void advance(const Utterance<Real>& u, int64_t i, const States<Real>& prev, const States<Real>& next,
               const Posterior<Real>* posterior) const;

  static constexpr int kFirstLabel = kForward ? Simd<Real>::kLanes : 1;
  States<Real> row(int64_t P, int64_t i) const { return States<Real>::at(rows + i * row_bytes, P, kFirstLabel); }
  States<Real> stored(int64_t P, int64_t i) const { return row(P, i % chunk); }
  States<Real> checkpoint(int64_t P, int64_t c) const { return row(P, chunk + c); }
  // Row of step i after the meeting; i may be -1.
  States<Real> rolling(int64_t P, int64_t i) const { return row(P, chunk + checkpoints + (i & 1)); }
};

template <typename Real>
struct Utterance {
  using Int = IntOf<Real>;

  const CtcForward* call;
  int64_t n, T, S, P;    // P: states of a row, padded to whole vectors
  int64_t valid_frames;  // logit length, held between 0 and the frames there are; T is 0 for a faulty utterance
  bool faulty;           // gives NaN
  bool feasible;         // has an alignment
  Int* labels;           // [P], blank where the target has a star
  Int* can_skip;         // [P]
  Int* stars;            // positions of the stars
  int64_t star_count;
  double* log2_priors;  // of each label, and of blank behind them; null without
  Real* emissions;      // T rows of P + 1 mantissas from index -1, and room for a vector
  Int* emission_exponents;
  Real* blanks;  // [T]
  Int* blank_exponents;
  Int total_exponent;
  double loss;
  Direction<Real, true> alpha;
  Direction<Real, false> beta;

  static CtcMemory memory_needed(const CtcForward& p, int64_t n);
  static Utterance& begin(const CtcForward& p, int64_t n, char* frame_memory);
  void begin_walk(char* walk_memory);
  void cut_frames(const CtcForward& p, int64_t n, Arena& arena);
  void cut_walk(Arena& arena);
  void read_target();
  void read_priors();
  template <bool kStar, bool kEntropy, typename In>
  void read_frame(int64_t t, int64_t ahead);
  void check_frames();
  void meet();
  void write_posteriors(int64_t t, const Real* blank, Real* label) const;
  void finish() const;

  Emission<Real> emission(int64_t t) const {
    return {emissions + t * (P + 1) + 1, emission_exponents + t * (P + 1) + 1};
  }
  bool has_emissions_above_1() const { return log2_priors || call->star_penalty < 0; }
  int64_t row_index(int64_t t) const { return t * call->problem.batch + n; }
  // From the row pass on the log-sum of the classes but blank; from the posteriors on what CtcProblem says.
  Real& star_log_share(int64_t t) const {
    const CtcProblem& p = call->problem;
    return static_cast<Real*>(p.star_rows)[p.frames * p.batch + row_index(t)];
  }
};

// --- memory ------------------------------------------------------------------------------------------------------

template <typename Real, bool kForward>
void Direction<Real, kForward>::lay_out(int64_t steps, int64_t P, bool save, Arena& arena) {
  half = steps;
  row_bytes = States<Real>::bytes(P);
  chunk = 2, checkpoints = 1, chunk_in_memory = 0;
  if (save && half > 0) {
    // At least 2, as without steps: a faulty utterance is laid out again with T = 0 in the same memory.
    chunk = smaller(half, kStoredBytes / row_bytes + 1);
    if (chunk < 2) chunk = 2;
    // Not more checkpoints than rows of a chunk: memory grows with the square root of the length at the most.
    while (chunk * chunk < half) ++chunk;
    checkpoints = (half + chunk - 1) / chunk;
  }
  rows = arena.take<char>((chunk + checkpoints + 2) * row_bytes);
  posterior_blank = arena.take<Real>(P);
  posterior_label = arena.take<Real>(P + Simd<Real>::kLanes) + kFirstLabel;
}

template <typename Real, bool kForward>
void Direction<Real, kForward>::clear(int64_t P) {
  for (int64_t i = 0; i < chunk + checkpoints + 2; ++i) row(P, i).clear_ends(P);
  posterior_label[-1] = 0, posterior_label[P - 1] = 0;
}

template <typename Real>
void Utterance<Real>::cut_frames(const CtcForward& p, int64_t utterance, Arena& arena) {
  const CtcProblem& problem = p.problem;
  call = &p;
  n = utterance;
  T = p.logit_lengths[n];
  S = problem.target_lengths[n];
  valid_frames = T < 0 ? 0 : smaller(T, problem.frames);
  faulty = T < 0 || T > problem.frames || S < 0 || S > problem.target_ends[n] - problem.target_offsets[n];
  if (faulty) T = 0, S = 0;
  P = States<Real>::padded(S);
  labels = arena.take<Int>(P);
  can_skip = arena.take<Int>(P);
  stars = arena.take<Int>(problem.has_star ? S : 0);
  log2_priors = p.log_priors ? arena.take<double>(S + 1) : nullptr;
  emissions = arena.take<Real>(T * (P + 1) + Simd<Real>::kLanes);
  emission_exponents = arena.take<Int>(T * (P + 1) + Simd<Real>::kLanes);
  blanks = arena.take<Real>(T);
  blank_exponents = arena.take<Int>(T);
}

template <typename Real>
void Utterance<Real>::cut_walk(Arena& arena) {
  alpha.lay_out(T / 2, P, call->save, arena);
  beta.lay_out(T - T / 2, P, call->save, arena);
}

template <typename Real>
CtcMemory Utterance<Real>::memory_needed(const CtcForward& p, int64_t n) {
  Utterance u;
  Arena frames{nullptr}, walk{nullptr};
  frames.take<Utterance>(1);
  u.cut_frames(p, n, frames);
  u.cut_walk(walk);
  return {frames.used, walk.used};
}

template <typename Real>
Utterance<Real>& Utterance<Real>::begin(const CtcForward& p, int64_t n, char* frame_memory) {
  Arena arena{frame_memory};
  Utterance& u = *arena.take<Utterance>(1);
  u.cut_frames(p, n, arena);
  u.read_target();
  return u;
}

// After the frames were read.
template <typename Real>
void Utterance<Real>::begin_walk(char* walk_memory) {
  Arena arena{walk_memory};
  check_frames();
  cut_walk(arena);
  alpha.clear(P);
  beta.clear(P);
}

// --- inputs ------------------------------------------------------------------------------------------------------

template <typename Real>
void Utterance<Real>::read_target() {
  const CtcProblem& p = call->problem;
  const int64_t offset = p.target_offsets[n];
  star_count = 0;
  for (int64_t s = 0; s < S; ++s) {
    const int64_t label = p.targets_are_int32 ? static_cast<const int32_t*>(p.targets)[offset + s]
                                              : static_cast<const int64_t*>(p.targets)[offset + s];
    const bool star = p.has_star && label == p.star;
    const bool outside = !star && (label < 0 || label >= p.classes);
    if (outside) faulty = true;
    if (star) stars[star_count++] = static_cast<Int>(s);
    labels[s] = static_cast<Int>(star ? p.classes : outside ? 0 : label);
  }
  if (faulty) T = 0;
  for (int64_t s = 0; s < P; ++s) can_skip[s] = s > 0 && s < S && labels[s] != labels[s - 1] ? -1 : 0;
  for (int64_t i = 0; i < star_count; ++i) labels[stars[i]] = static_cast<Int>(p.blank);
  if (log2_priors) read_priors();
}

template <typename Real>
void Utterance<Real>::read_priors() {
  const Real* log_priors = static_cast<const Real*>(call->log_priors);
  for (int64_t s = 0; s < S; ++s) log2_priors[s] = log_priors[labels[s]] * kLog2E;
  log2_priors[S] = log_priors[call->problem.blank] * kLog2E;
}

// `ahead`: distance to the row that is read next, in elements.
template <typename Real>
template <bool kStar, bool kEntropy, typename In>
[[gnu::always_inline]] inline void Utterance<Real>::read_frame(int64_t t, int64_t ahead) {
  const CtcProblem& p = call->problem;
  const In* row = static_cast<const In*>(p.logits) + t * p.stride_t + n * p.stride_n;
  const RowSummary<Real> summary = summarise_row<kStar, kEntropy, Real>(row, row + ahead, p.classes, p.blank);
  const RowStatistics<Real> statistics = summary.all;
  const int64_t index = row_index(t);
  static_cast<Real*>(p.row_max)[index] = statistics.max;
  static_cast<Real*>(p.log_sum)[index] = statistics.log_sum;
  if constexpr (kEntropy) static_cast<Real*>(p.row_entropy)[index] = summary.entropy;
  if constexpr (kStar) {
    static_cast<Real*>(p.star_rows)[index] = summary.rest.max;
    star_log_share(t) = summary.rest.log_sum;
  }
  if (statistics.log_sum != statistics.log_sum) return;

  const Emission<Real> e = emission(t);
  for (int64_t s = 0; s < S; ++s) e.mantissa[s] = to_real(row[labels[s]]);
  // The blank rides along behind the labels.
  e.mantissa[S] = to_real(row[p.blank]);
  if (log2_priors)
    split_emissions<Real>(e.mantissa, e.exponent, S + 1, statistics, log2_priors);
  else
    split_emissions<Real>(e.mantissa, e.exponent, S + 1, statistics);
  blanks[t] = e.mantissa[S], blank_exponents[t] = e.exponent[S];
  if constexpr (kStar) {
    Real mantissa;
    Int exponent;
    split_any((summary.log_star - call->star_penalty) * kLog2E, mantissa, exponent);
    for (int64_t i = 0; i < star_count; ++i) e.mantissa[stars[i]] = mantissa, e.exponent[stars[i]] = exponent;
  }
  e.mantissa[-1] = 0, e.exponent[-1] = kZeroExponent<Real>;
  for (int64_t s = S; s < P; ++s) e.mantissa[s] = 0, e.exponent[s] = kZeroExponent<Real>;
}

// A NaN or +inf logit, or a row of nothing but -inf, has a NaN log-sum.
template <typename Real>
void Utterance<Real>::check_frames() {
  const Real* log_sum = static_cast<const Real*>(call->problem.log_sum);
  for (int64_t t = 0; t < T; ++t) faulty |= log_sum[row_index(t)] != log_sum[row_index(t)];
  if (faulty) T = 0;
}

// --- recursion ---------------------------------------------------------------------------------------------------

template <typename Real, bool kForward>
void Direction<Real, kForward>::advance(const Utterance<Real>& u, int64_t i, const States<Real>& prev,
                                        const States<Real>& next, const Posterior<Real>* posterior) const {
  const int64_t t = kForward ? i : u.T - 1 - i;
  // Two frames on.  Backward in time rows are passed from the last to the first, which the hardware does not foresee: a
  // step took 137 ns instead of 60 at S = 80.
  if (const int64_t coming = kForward ? t + 2 : t - 2; coming >= 0 && coming < u.T) {
    prefetch(u.emission(coming).mantissa, u.P * sizeof(Real));
    prefetch(u.emission(coming).exponent, u.P * sizeof(Int));
  }
  const Real blank = u.blanks[t];
  const Int blank_exponent = u.blank_exponents[t];
  if (posterior)
    step<Real, kForward, true>(u.P, prev, next, u.emission(t), blank, blank_exponent, u.can_skip, posterior);
  else
    step<Real, kForward, false>(u.P, prev, next, u.emission(t), blank, blank_exponent, u.can_skip, nullptr);
  if (i % kFramesPerNormalisation != kFramesPerNormalisation - 1) return;
  u.has_emissions_above_1() ? normalise<true>(next, u.P) : normalise<false>(next, u.P);
}

template <typename Real, bool kForward>
void Direction<Real, kForward>::walk_to_meeting(const Utterance<Real>& u) {
  if (u.T == 0) return;
  // Before its first frame a path is as if in the blank at its end of the target.
  States<Real> prev = checkpoint(u.P, 0);
  prev.clear(u.P);
  const int64_t start = kForward ? 0 : u.S;
  prev.blank[start] = 1, prev.blank_exponent[start] = 0;
  for (int64_t i = 0; i < half; ++i) {
    if (u.call->save && i > 0 && i % chunk == 0) {
      const States<Real> kept = checkpoint(u.P, i / chunk);
      prev.copy_to(kept, u.P);
      prev = kept;
    }
    const States<Real> next = stored(u.P, i);
    advance(u, i, prev, next, nullptr);
    prev = next;
  }
  chunk_in_memory = half > 0 ? (half - 1) / chunk : 0;
  prev.copy_to(rolling(u.P, half - 1), u.P);
}

// The states after step i of the first half, recomputed from a checkpoint if need be.
template <typename Real, bool kForward>
States<Real> Direction<Real, kForward>::states_after(const Utterance<Real>& u, int64_t i) {
  if (i / chunk != chunk_in_memory) {
    chunk_in_memory = i / chunk;
    States<Real> prev = checkpoint(u.P, chunk_in_memory);
    for (int64_t k = chunk_in_memory * chunk; k < smaller((chunk_in_memory + 1) * chunk, half); ++k) {
      const States<Real> next = stored(u.P, k);
      advance(u, k, prev, next, nullptr);
      prev = next;
    }
  }
  return stored(u.P, i);
}

// Total probability: the forward states moved to the next frame, times the backward states at that frame.
template <typename Real>
void Utterance<Real>::meet() {
  Scaled total{0, kZeroExponent<Real>};
  if (T == 0) {
    if (S == 0) total = {1, 0};
  } else {
    const States<Real> a = alpha.rolling(P, alpha.half - 1), b = beta.rolling(P, beta.half - 1);
    for (int64_t j = 0; j <= S; ++j) {
      const Scaled blank{a.blank[j], a.blank_exponent[j]};
      const Scaled to_blank = blank + Scaled{a.label[j - 1], a.label_exponent[j - 1]};
      total = total + to_blank * Scaled{b.blank[j], b.blank_exponent[j]};
      if (j == S) break;
      const Scaled to_label = (can_skip[j] ? to_blank : blank) + Scaled{a.label[j], a.label_exponent[j]};
      total = total + to_label * Scaled{b.label[j], b.label_exponent[j]};
    }
  }
  feasible = !faulty && total.mantissa > 0;
  total_exponent = static_cast<Int>(total.exponent);
  constexpr double kLn2 = 0.6931471805599453;
  loss = faulty     ? __builtin_nan("")
         : feasible ? -(__builtin_log2(total.mantissa) + total.exponent) * kLn2
                    : __builtin_inf();
}

template <typename Real, bool kForward>
void Direction<Real, kForward>::walk_from_meeting(const Utterance<Real>& u, Direction<Real, !kForward>& other) {
  if (!u.call->save || !u.feasible) return;
  for (int64_t i = half; i < u.T; ++i) {
    if (const int64_t coming = u.T - 3 - i; coming >= 0) prefetch(other.stored(u.P, coming).blank, other.row_bytes);
    const Posterior<Real> posterior{other.states_after(u, u.T - 1 - i), u.total_exponent, posterior_blank,
                                    posterior_label};
    advance(u, i, rolling(u.P, i - 1), rolling(u.P, i), &posterior);
    u.write_posteriors(kForward ? i : u.T - 1 - i, posterior_blank, posterior_label);
  }
}

}  // namespace lisa::LISA_CAPABILITY
