// The search over frames: by one warp with the states in registers, or by a block with the states in memory.
#pragma once
#include "ctc_align_trace.cuh"

namespace lisa::ctc {

// The best ways to a position's label and blank.
struct Step {
  double label, blank;  // before their emissions
  bool onto_label, by_skip, onto_blank;
};

// `below`: label j - 1; `may_skip`: it differs from label j.
__device__ inline Step step(double label, double blank, double below, bool may_skip) {
  const double skip = may_skip ? below : -infinity<double>();
  Step s;
  // Each only where it is better: staying wins over advancing, and that over skipping.
  s.by_skip = skip > blank;
  const double moved = s.by_skip ? skip : blank;
  s.onto_label = moved > label;
  s.onto_blank = below > blank;
  s.label = s.onto_label ? moved : label;
  s.blank = s.onto_blank ? below : blank;
  return s;
}

__device__ inline bool may_skip(const Align& call, const Aligned& u, int j) {
  const Problem& p = call.problem;
  return j > 0 && j < u.labels && label_at(p, u.target.start + j) != label_at(p, u.target.start + j - 1);
}

// Given the states after the last frame.
template <typename Real>
__device__ inline void finish(const Align& call, const Aligned& u, bool faulty, double last_label, double last_blank) {
  const bool found = !faulty && (last_label > -infinity<double>() || last_blank > -infinity<double>());
  trace<Real>(call, u, faulty, found, last_label >= last_blank);
}

// Emissions of a frame as a lane of a warp takes them: the blank's, and its label's in each group.
template <typename Real, int kGroups>
struct FrameEmissions {
  Window window;
  Real blank, label[kGroups];

  __device__ void load(const Align& call, const Aligned& u, const Emissions<Real>& emissions, int64_t t) {
    window = window_of(call, u, t);
    const Real* row = emissions.row(t);
    const int origin = emissions.origin(window), last = smaller(window.last, u.labels - 1);
    blank = row[0];
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      const int j = k * kWarp + static_cast<int>(threadIdx.x) % kWarp;
      label[k] = j >= window.first && j <= last ? row[origin + j] : -infinity<Real>();
    }
  }
};

// Targets of more_than < S <= at_most labels, an utterance a warp.  Lane i has positions i, 32 + i, ...
template <typename Real, int kGroups>
__global__ void __launch_bounds__(kWarp, 1) ctc_align_warp_kernel(Align call, int more_than, int at_most) {
  const Aligned u = aligned_of(call, blockIdx.x);
  if (u.labels <= more_than || u.labels > at_most) return;
  const int lane = threadIdx.x;
  const bool faulty = find_faults<Real>(call, u);
  double label[kGroups], blank[kGroups];
  unsigned skips = 0;
#pragma unroll
  for (int k = 0; k < kGroups; ++k) {
    label[k] = blank[k] = -infinity<double>();
    if (may_skip(call, u, k * kWarp + lane)) skips |= 1u << k;
  }
  // Before the first frame: as if in the first blank.
  if (lane == 0) blank[0] = 0;

  // Frames that are fetched ahead: about 700 cycles of work for any number of groups.
  constexpr int kAhead = kGroups >= 8 ? 1 : 8 / kGroups;
  const Emissions<Real> emissions(call, u);
  const Moves moves(call, u);
  const int frames = faulty || !u.has_room() ? 0 : u.frames;
  FrameEmissions<Real, kGroups> ahead[kAhead];
#pragma unroll
  for (int slot = 0; slot < kAhead; ++slot) {
    if (slot >= frames) break;
    ahead[slot].load(call, u, emissions, slot);
  }
  for (int done = 0; done < frames; done += kAhead) {
#pragma unroll
    for (int slot = 0; slot < kAhead; ++slot) {
      const int t = done + slot;
      if (t >= frames) break;
      const FrameEmissions<Real, kGroups> scores = ahead[slot];
      if (t + kAhead < frames) ahead[slot].load(call, u, emissions, t + kAhead);
      const int first = scores.window.first, last = scores.window.last;
      constexpr int kWords = kGroups * Moves::kPlanes, kStores = (kWords + kWarp - 1) / kWarp;
      uint32_t words[kStores] = {};
      double here = __shfl_sync(kAllLanes, label[kGroups - 1], (lane + kWarp - 1) % kWarp);
      // Downwards, so that labels below are still those of the frame before.
#pragma unroll
      for (int k = kGroups - 1; k >= 0; --k) {
        const double next =
            k == 0 ? -infinity<double>() : __shfl_sync(kAllLanes, label[k > 0 ? k - 1 : 0], (lane + kWarp - 1) % kWarp);
        const Step s = step(label[k], blank[k], lane == 0 ? next : here, skips >> k & 1);
        here = next;
        const int j = k * kWarp + lane;
        label[k] = s.label + static_cast<double>(scores.label[k]);
        blank[k] = j >= first && j <= last ? s.blank + static_cast<double>(scores.blank) : -infinity<double>();
        const uint32_t planes[Moves::kPlanes] = {__ballot_sync(kAllLanes, s.onto_label),
                                                 __ballot_sync(kAllLanes, s.by_skip),
                                                 __ballot_sync(kAllLanes, s.onto_blank)};
#pragma unroll
        for (int i = 0; i < Moves::kPlanes; ++i) {
          const int word = k * Moves::kPlanes + i;
          if (lane == word % kWarp) words[word / kWarp] = planes[i];
        }
      }
      // Words of groups from the row's first on.
      const int skipped = moves.origin(scores.window) * Moves::kPlanes;
      const int end = (last / kWarp + 1) * Moves::kPlanes;
#pragma unroll
      for (int i = 0; i < kStores; ++i) {
        const int word = i * kWarp + lane;
        if (word >= skipped && word < end) moves.group(t, 0)[word - skipped] = words[i];
      }
    }
  }
  __syncwarp();

  double last_label = -infinity<double>(), last_blank = -infinity<double>();
#pragma unroll
  for (int k = 0; k < kGroups; ++k) {
    const double of_label = __shfl_sync(kAllLanes, label[k], (u.labels + kWarp - 1) % kWarp);
    const double of_blank = __shfl_sync(kAllLanes, blank[k], u.labels % kWarp);
    if (u.labels > 0 && (u.labels - 1) / kWarp == k) last_label = of_label;
    if (u.labels / kWarp == k) last_blank = of_blank;
  }
  const bool has_path = u.has_room();
  finish<Real>(call, u, faulty, has_path ? last_label : -infinity<double>(),
               has_path ? last_blank : -infinity<double>());
}

constexpr int kSearchThreads = 512;
constexpr int kSearchWarps = kSearchThreads / kWarp;
// Groups of a warp whose emissions are fetched a frame ahead: with all warps, 1536 positions.
constexpr int kGroupsAhead = 3;

// States in rings of positions; a frame reads those of the frame before within that one's window.
struct RingStates {
  double *labels, *blanks;
  int mask;
  int first, last;  // positions that hold something

  __device__ double label(int j) const { return j >= first && j <= last ? labels[j & mask] : -infinity<double>(); }
  __device__ double blank(int j) const { return j >= first && j <= last ? blanks[j & mask] : -infinity<double>(); }
};

// The groups of a frame's window that a warp has: each group is always the same warp's.
struct GroupsOfWarp {
  int next, end;

  __device__ GroupsOfWarp(Window window, int warp) : next(window.first / kWarp), end(window.last / kWarp) {
    next += (warp - next % kSearchWarps + kSearchWarps) % kSearchWarps;
  }
};

// Longer targets, an utterance a block.
template <typename Real>
__global__ void __launch_bounds__(kSearchThreads) ctc_align_block_kernel(Align call) {
  extern __shared__ double states_in_shared[];
  __shared__ int is_faulty;
  const Aligned u = aligned_of(call, blockIdx.x);
  if (u.labels <= call.block_above) return;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  if (warp == 0) {
    const bool faulty = find_faults<Real>(call, u);
    if (lane == 0) is_faulty = faulty;
  }
  uint32_t* skips = call.skips + u.target.start / kWarp + u.n;
  for (int group = warp; group <= u.labels / kWarp; group += kSearchWarps) {
    const uint32_t word = __ballot_sync(kAllLanes, may_skip(call, u, group * kWarp + lane));
    if (lane == 0) skips[group] = word;
  }
  const int ring = static_cast<int>(call.ring);
  double* memory = call.states_in_global ? call.states_in_global + u.n * 4 * call.ring : states_in_shared;
  RingStates before{memory, memory + ring, ring - 1, 0, 0}, after{memory + 2 * ring, memory + 3 * ring, ring - 1, 0, 0};
  // Before the first frame: as if in the first blank.
  if (threadIdx.x == 0) before.labels[0] = -infinity<double>(), before.blanks[0] = 0;
  __syncthreads();

  const bool faulty = is_faulty;
  const Emissions<Real> emissions(call, u);
  const Moves moves(call, u);
  const int frames = faulty || !u.has_room() ? 0 : u.frames;
  Window window{0, 0}, window_ahead{0, 0};
  Real blank_ahead = Real(0), labels_ahead[kGroupsAhead] = {};
  const auto emission = [&](Window of, int64_t t, int group) {
    const int j = group * kWarp + lane;
    return j >= of.first && j <= smaller(of.last, u.labels - 1) ? emissions.row(t)[emissions.origin(of) + j]
                                                                : -infinity<Real>();
  };
  const auto fetch = [&](int64_t t) {
    window_ahead = window_of(call, u, t);
    blank_ahead = emissions.row(t)[0];
    const GroupsOfWarp groups(window_ahead, warp);
#pragma unroll
    for (int i = 0; i < kGroupsAhead; ++i) labels_ahead[i] = emission(window_ahead, t, groups.next + i * kSearchWarps);
  };
  if (frames > 0) fetch(0);
  for (int t = 0; t < frames; ++t) {
    const Real blank_score = blank_ahead;
    Real label_scores[kGroupsAhead];
#pragma unroll
    for (int i = 0; i < kGroupsAhead; ++i) label_scores[i] = labels_ahead[i];
    window = window_ahead;
    if (t + 1 < frames) fetch(t + 1);
    const GroupsOfWarp groups(window, warp);
    after.first = window.first, after.last = window.last;
    const auto search = [&](int group, Real label_score) {
      const int j = group * kWarp + lane;
      const Step s = step(before.label(j), before.blank(j), before.label(j - 1), skips[group] >> lane & 1);
      if (j >= after.first && j <= after.last) {
        after.labels[j & after.mask] = s.label + static_cast<double>(label_score);
        after.blanks[j & after.mask] = s.blank + static_cast<double>(blank_score);
      }
      const uint32_t onto_label = __ballot_sync(kAllLanes, s.onto_label);
      const uint32_t by_skip = __ballot_sync(kAllLanes, s.by_skip);
      const uint32_t onto_blank = __ballot_sync(kAllLanes, s.onto_blank);
      const uint32_t word = lane == Moves::kOntoLabel ? onto_label : lane == Moves::kBySkip ? by_skip : onto_blank;
      if (lane < Moves::kPlanes) moves.group(t, group - moves.origin(window))[lane] = word;
    };
#pragma unroll
    for (int i = 0; i < kGroupsAhead; ++i) {
      const int group = groups.next + i * kSearchWarps;
      if (group <= groups.end) search(group, label_scores[i]);
    }
    for (int group = groups.next + kGroupsAhead * kSearchWarps; group <= groups.end; group += kSearchWarps)
      search(group, emission(window, t, group));
    __syncthreads();
    const RingStates done = before;
    before = after;
    after = done;
  }
  if (warp > 0) return;
  const bool has_path = u.has_room();
  finish<Real>(call, u, faulty, has_path ? before.label(u.labels - 1) : -infinity<double>(),
               has_path ? before.blank(u.labels) : -infinity<double>());
}

}  // namespace lisa::ctc
