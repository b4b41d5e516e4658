// The recursion over frames: states in registers, one shift by a lane a frame.
//
// Both directions of time run the same code.  Backward in time everything is counted from the other end: step i is
// frame T-1-i, label j is label S-1-j, blank j is blank S-j.  A lane holds kPairs pairs of label j and blank j+1; blank
// 0, the lead, which nothing but itself enters, is held beside them.  Pairs beyond the target hold what nothing of the
// target ever depends on, since paths only go up.
#pragma once
#include <cuda_pipeline_primitives.h>

#include "ctc_reduce.cuh"
#include "ctc_target.cuh"

namespace lisa::ctc {

constexpr int kFramesPerNormalisation = 8;

// How a direction of an utterance is laid out over threads: kWarps warps, each with kPairs pairs a lane, take a strip
// of the target at a time.  A single warp never meets a block barrier.
template <typename Real_, int kPairs_, int kWarps_>
class Plan {
  static constexpr int kWords = static_cast<int>(sizeof(Real_)) / 4;

 public:
  using Real = Real_;
  static constexpr int kPairs = kPairs_, kWarps = kWarps_;
  // A single warp shares its block with that of the other direction.
  static constexpr int kThreads = kWarps == 1 ? 2 * kWarp : kWarps * kWarp;
  static constexpr int kStrip = kWarps * kWarp * kPairs;
  // Frames that are fetched ahead: about 700 cycles of work for any kPairs.
  static constexpr int kAhead = 4 / kWords <= kPairs ? 2 : 8 / kWords / kPairs;
  static_assert((kAhead & (kAhead - 1)) == 0, "slots are taken in turn by a mask");
  // Values a lane fetches for a frame: its labels' emissions, the blank's, and of the other direction its labels, its
  // blanks and the blank that meets the lead.
  static constexpr int kFetched = 3 * kPairs + 2;
  static constexpr int kSharedBytes =
      (kAhead * kFetched * kThreads + 2 * kWarps) * static_cast<int>(sizeof(Scaled<Real>));

  static __device__ int warp() { return kWarps == 1 ? 0 : static_cast<int>(threadIdx.x) / kWarp; }
  static __device__ int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
  // All threads of a direction.
  static __device__ void sync() {
    if constexpr (kWarps == 1)
      __syncwarp();
    else
      __syncthreads();
  }
};

// One direction of one utterance.  A row of its states is blanks 0..S, then labels 0..S-1, in its own count.
template <typename Real>
struct Direction {
  bool is_forward;
  int half;  // steps before the meeting
  Scaled<Real>* rows;
  // What enters the next strip at each step, [2, border_width]: strips take turns.
  Scaled<Real>* borders;
  int border_width;

  __device__ Scaled<Real>* border(int strip) const { return borders + (strip & 1) * border_width; }

  __device__ int label(int j, int labels) const { return is_forward ? j : labels - 1 - j; }
};

template <typename Real>
struct Lattice {
  const Problem* problem;
  Utterance u;
  const Scaled<Real>* emissions;  // rows of blank, label 0, ...
  Real* posteriors;               // likewise
  Real* blank_parts;              // `parts` a frame
  int64_t parts;

  __device__ int row_width() const { return 2 * u.labels + 1; }
};

// Steps `begin` to `end` of a direction.
template <typename Real>
struct Steps {
  int begin, end;
  const Scaled<Real>* from;  // the states before; null: before the first frame, as if in the first blank
  Scaled<Real>* to;          // takes the states after; may be null
  Scaled<Real>* kept;        // takes the states after each step, a row a step; may be null
  // With posteriors: the other direction's states at the frame of step `begin`; the row before is that of the next one.
  const Scaled<Real>* other;
  IntOf<Real> total_exponent;
};

// States of one strip.
template <typename P>
struct States {
  using Real = typename P::Real;
  Scaled<Real> lead, label[P::kPairs], blank[P::kPairs];

  __device__ void load(const Scaled<Real>* row, int first, int labels) {
    lead = row ? row[0] : Scaled<Real>{Real(1), 0};
#pragma unroll
    for (int k = 0; k < P::kPairs; ++k) {
      const bool inside = row && first + k < labels;
      blank[k] = inside ? row[first + k + 1] : scaled_zero<Real>();
      label[k] = inside ? row[labels + 1 + first + k] : scaled_zero<Real>();
    }
  }
  __device__ void store(Scaled<Real>* row, int first, int labels) const {
    if (first == 0) row[0] = lead;
#pragma unroll
    for (int k = 0; k < P::kPairs; ++k) {
      if (first + k >= labels) continue;
      row[first + k + 1] = blank[k];
      row[labels + 1 + first + k] = label[k];
    }
  }
  // Blank k + 1 before its emission.
  __device__ Scaled<Real> to_blank(int k) const { return blank[k] + label[k]; }
  __device__ void normalise() {
    lead = normalised(lead);
#pragma unroll
    for (int k = 0; k < P::kPairs; ++k) blank[k] = normalised(blank[k]), label[k] = normalised(label[k]);
  }
};

// What a lane fetches ahead, in shared memory of its own: no other thread reads it, so waiting for it needs no barrier.
template <typename P, bool kPosterior>
struct Fetch {
  using Real = typename P::Real;
  Scaled<Real>* own;
  const Scaled<Real>* emissions;
  const Scaled<Real>* other;
  int emission_stride, other_stride, labels, first;
  bool is_forward;

  __device__ Fetch(const Lattice<Real>& lattice, const Direction<Real>& direction, const Steps<Real>& steps,
                   int first_pair, Scaled<Real>* ring)
      : own(ring + threadIdx.x), labels(lattice.u.labels), first(first_pair), is_forward(direction.is_forward) {
    const int width = labels + 1;
    const int frame = direction.is_forward ? steps.begin : lattice.u.frames - 1 - steps.begin;
    emissions = lattice.emissions + static_cast<int64_t>(frame) * width;
    emission_stride = direction.is_forward ? width : -width;
    other = steps.other;
    other_stride = -lattice.row_width();
  }
  // Pairs beyond the target read what is there, within the row.
  __device__ int pair(int k) const { return smaller(first + k, labels - 1); }
  // What is fetched for a frame, its values kThreads apart.
  __device__ Scaled<Real>* slot(int index) const { return own + index * (P::kFetched * P::kThreads); }
  static __device__ Scaled<Real>* at(Scaled<Real>* slot, int i) { return slot + i * P::kThreads; }

  __device__ static void copy(Scaled<Real>* to, const Scaled<Real>* from) {
    __pipeline_memcpy_async(to, from, sizeof(Scaled<Real>));
  }
  // Starts to fetch the next frame.
  __device__ void start(Scaled<Real>* slot) {
    copy(at(slot, 0), emissions);
#pragma unroll
    for (int k = 0; k < P::kPairs; ++k) {
      const int j = pair(k);
      copy(at(slot, 1 + k), emissions + (is_forward ? j + 1 : labels - larger(j, 0)));
    }
    if constexpr (kPosterior) {
      copy(at(slot, 1 + P::kPairs), other + labels);
#pragma unroll
      for (int k = 0; k < P::kPairs; ++k) {
        // Without labels: the one blank, twice.
        const int j = labels - 1 - pair(k);
        copy(at(slot, 2 + P::kPairs + k), other + j);
        copy(at(slot, 2 + 2 * P::kPairs + k), other + (labels == 0 ? 0 : labels + 1 + j));
      }
    }
  }
  // To the next frame, which may be none: its address is not used then.
  __device__ void go_on() {
    emissions += emission_stride;
    if constexpr (kPosterior) other += other_stride;
  }
  __device__ Scaled<Real> blank_emission(Scaled<Real>* slot) const { return *at(slot, 0); }
  __device__ Scaled<Real> emission(Scaled<Real>* slot, int k) const { return *at(slot, 1 + k); }
  __device__ Scaled<Real> other_last_blank(Scaled<Real>* slot) const { return *at(slot, 1 + P::kPairs); }
  __device__ Scaled<Real> other_blank(Scaled<Real>* slot, int k) const { return *at(slot, 2 + P::kPairs + k); }
  __device__ Scaled<Real> other_label(Scaled<Real>* slot, int k) const { return *at(slot, 2 + 2 * P::kPairs + k); }
};

template <typename Real>
__device__ inline Scaled<Real> from_lane_below(Scaled<Real> x) {
  return {__shfl_up_sync(kAllLanes, x.mantissa, 1), __shfl_up_sync(kAllLanes, x.exponent, 1)};
}

// What a walk leaves behind at each step.
enum class Leaves { kNothing, kStates, kPosteriors };

// One strip of the target through all steps.
template <typename P, Leaves kLeaves>
class Strip {
  using Real = typename P::Real;
  static constexpr int kPairs = P::kPairs, kAhead = P::kAhead;
  static constexpr bool kPosterior = kLeaves == Leaves::kPosteriors;
  // Frames whose posteriors a lane holds before it stores them: 8 registers.
  static constexpr int kTogether = kAhead * kPairs * static_cast<int>(sizeof(Real)) <= 32 ? kAhead : 1;

 public:
  __device__ Strip(const Lattice<Real>& lattice, const Direction<Real>& direction, const Steps<Real>& steps, int strip,
                   Scaled<Real>* ring)
      : lattice_(lattice),
        direction_(direction),
        steps_(steps),
        strip_(strip),
        labels_(lattice.u.labels),
        first_(strip * P::kStrip + (P::warp() * kWarp + P::lane()) * kPairs),
        frame_step_(direction.is_forward ? 1 : -1),
        part_step_(frame_step_ * static_cast<int>(lattice.parts)),
        halo_(ring + kAhead * P::kFetched * P::kThreads),
        kept_(steps.kept),
        fetch_(lattice, direction, steps, first_, ring) {
#pragma unroll
    for (int k = 0; k < kPairs; ++k) {
      const int j = first_ + k;
      if (j + 1 < labels_ && label(j) != label(j + 1)) skips_ |= 1u << k;
    }
    states_.load(steps.from, first_, labels_);
    const int64_t frame = direction.is_forward ? steps.begin : lattice.u.frames - 1 - steps.begin;
    posteriors_ = lattice.posteriors + frame * (labels_ + 1) + 1 + direction.label(first_, labels_);
    blank_parts_ = lattice.blank_parts + frame * lattice.parts + strip * P::kWarps + P::warp();
  }

  __device__ void walk() {
    const int count = steps_.end - steps_.begin;
#pragma unroll
    for (int slot = 0; slot < kAhead; ++slot) {
      if (slot < count) fetch_.start(fetch_.slot(slot));
      fetch_.go_on();
      __pipeline_commit();
    }
    int done = 0;
    // While all that is fetched ahead exists, nothing is asked frame by frame.
    for (; count - done >= 2 * kAhead; done += kAhead) {
      Posteriors posteriors[kTogether];
#pragma unroll
      for (int slot = 0; slot < kAhead; ++slot) {
        step(fetch_.slot(slot), done + slot, true, posteriors[slot % kTogether]);
        if ((done + slot + 1) % kFramesPerNormalisation == 0) states_.normalise();
        if constexpr (kPosterior)
          if ((slot + 1) % kTogether == 0) store(posteriors);
      }
    }
    while (done < count) {
      const int end = smaller(count, done + kFramesPerNormalisation - done % kFramesPerNormalisation);
#pragma unroll 1
      for (; done < end; ++done) {
        Posteriors posteriors[1];
        step(fetch_.slot(done & (kAhead - 1)), done, done < count - kAhead, posteriors[0]);
        if constexpr (kPosterior) store(posteriors);
      }
      states_.normalise();
    }
    __pipeline_wait_prior(0);
    states_.normalise();
    if (steps_.to) states_.store(steps_.to, first_, labels_);
  }

 private:
  __device__ int64_t label(int j) const {
    return label_at(*lattice_.problem, lattice_.u.target.start + direction_.label(j, labels_));
  }
  // Whether the label of the next pair may follow that of pair k without a blank.
  __device__ bool skips(int k) const { return skips_ >> k & 1; }

  // Of one frame: the lane's labels, and its part of blank.
  struct Posteriors {
    Real label[kPairs], blank;
  };
  // Those of the next kCount frames together: a branch and the latency of five shuffles for all of them.
  template <int kCount>
  __device__ void store(const Posteriors (&posteriors)[kCount]) {
    constexpr int kLanes = kWarp / kCount;
    Real blanks[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) blanks[i] = posteriors[i].blank;
    const Real sum = reduce_each(blanks);
    if (P::lane() % kLanes == 0) blank_parts_[P::lane() / kLanes * part_step_] = sum;
#pragma unroll
    for (int k = 0; k < kPairs; ++k) {
      if (first_ + k >= labels_) break;
      Real* out = posteriors_ + k * frame_step_;
#pragma unroll
      for (int i = 0; i < kCount; ++i, out += frame_step_ * (labels_ + 1)) *out = posteriors[i].label[k];
    }
    posteriors_ += kCount * frame_step_ * (labels_ + 1);
    blank_parts_ += kCount * part_step_;
  }

  // What enters the lane's first pair from the pair below.
  __device__ Scaled<Real> entering(Scaled<Real> leaving, int index) {
    Scaled<Real> enters = from_lane_below(leaving);
    if constexpr (P::kWarps > 1) {
      const int step = steps_.begin + index, warp = P::warp(), lane = P::lane();
      Scaled<Real>* turn = halo_ + (index & 1) * P::kWarps;
      if (lane == kWarp - 1) {
        turn[warp] = leaving;
        if (warp == P::kWarps - 1 && first_ + kPairs < labels_) direction_.border(strip_)[step] = leaving;
      }
      __syncthreads();
      if (lane == 0 && warp > 0) enters = turn[warp - 1];
      if (lane == 0 && warp == 0 && strip_ > 0) enters = direction_.border(strip_ - 1)[step];
    }
    return first_ == 0 ? states_.lead : enters;
  }

  // One frame.
  __device__ void step(Scaled<Real>* slot, int index, bool fetches, [[maybe_unused]] Posteriors& posteriors) {
    __pipeline_wait_prior(kAhead - 1);
    Scaled<Real> to_blank = states_.to_blank(kPairs - 1);
    const Scaled<Real> enters = entering(skips(kPairs - 1) ? to_blank : states_.blank[kPairs - 1], index);
    if constexpr (kPosterior) {
      const Real in_lead = joint(states_.lead, fetch_.other_last_blank(slot), steps_.total_exponent);
      posteriors.blank = first_ == 0 ? in_lead : Real(0);
    }
    const Scaled<Real> blank_emission = fetch_.blank_emission(slot);
    states_.lead = emit(states_.lead, blank_emission);
    // Downwards, so that a pair's states are still those of the frame before when the pair above asks for them.
#pragma unroll
    for (int k = kPairs - 1; k >= 0; --k) {
      const int lower = k > 0 ? k - 1 : 0;
      const Scaled<Real> below = k == 0 ? enters : states_.to_blank(lower);
      const Scaled<Real> to_label = states_.label[k] + (k == 0 || skips(lower) ? below : states_.blank[lower]);
      if constexpr (kPosterior) {
        // Beyond the target as well, and dropped: without branches.
        const Real in_blank = joint(to_blank, fetch_.other_blank(slot, k), steps_.total_exponent);
        posteriors.blank += first_ + k < labels_ ? in_blank : Real(0);
        posteriors.label[k] = joint(to_label, fetch_.other_label(slot, k), steps_.total_exponent);
      }
      states_.blank[k] = emit(to_blank, blank_emission);
      states_.label[k] = emit(to_label, fetch_.emission(slot, k));
      to_blank = below;
    }
    if constexpr (kLeaves == Leaves::kStates) {
      states_.store(kept_, first_, labels_);
      kept_ += lattice_.row_width();
    }
    if (fetches) fetch_.start(slot);
    fetch_.go_on();
    __pipeline_commit();
  }

  const Lattice<Real>& lattice_;
  const Direction<Real>& direction_;
  const Steps<Real>& steps_;
  const int strip_, labels_, first_;
  const int frame_step_, part_step_;
  unsigned skips_ = 0;
  Scaled<Real>* halo_;
  Scaled<Real>* kept_;
  // Of this frame:
  Real* posteriors_;   // of the lane's first label
  Real* blank_parts_;  // the warp's
  States<P> states_;
  Fetch<P, kPosterior> fetch_;
};

template <typename P>
__device__ inline int strips_of(int labels) {
  return P::kWarps == 1 || labels <= P::kStrip ? 1 : (labels + P::kStrip - 1) / P::kStrip;
}

template <typename P, Leaves kLeaves>
__device__ inline void walk(const Lattice<typename P::Real>& lattice, const Direction<typename P::Real>& direction,
                            const Steps<typename P::Real>& steps, Scaled<typename P::Real>* ring) {
  if constexpr (P::kWarps == 1) {
    Strip<P, kLeaves>(lattice, direction, steps, 0, ring).walk();
  } else {
    const int strips = strips_of<P>(lattice.u.labels);
    for (int strip = 0; strip < strips; ++strip) {
      Strip<P, kLeaves>(lattice, direction, steps, strip, ring).walk();
      __syncthreads();
    }
  }
}

}  // namespace lisa::ctc
