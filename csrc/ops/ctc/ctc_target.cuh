// Where the targets lie and in which order their classes are: lengths and labels are only ever read on the device.
#pragma once
#include "ctc_cuda.h"
#include "ctc_scaled.cuh"

namespace lisa::ctc {

// A target; values out of range are held within the tensors and make it faulty.
struct Target {
  int64_t start;  // of its first label in `targets`
  int room;       // labels that have a place in `targets`
  int labels;
  bool faulty;
  // Positions of all utterances before this one, a blank for each counted in.
  int64_t position;
};

__device__ inline int64_t held(int64_t x, int64_t most) { return x < 0 ? 0 : (x > most ? most : x); }

__device__ inline Target target_of(const Problem& p, int64_t n) {
  Target target;
  if (p.concatenated) {
    target.start = p.target_starts[n];
    const int64_t end = n + 1 < p.batch ? p.target_starts[n + 1] : held(p.target_starts[n + 1], p.target_count);
    target.room = static_cast<int>(end - target.start);
    // Lengths of another total leave no target where it belongs.
    target.faulty = p.target_starts[p.batch] != p.target_count;
  } else {
    target.start = n * p.most_labels;
    target.room = static_cast<int>(p.most_labels);
    target.faulty = false;
  }
  const int64_t length = p.target_lengths[n];
  target.faulty |= length < 0 || length > target.room;
  target.labels = static_cast<int>(held(length, target.room));
  target.position = target.start + n;
  return target;
}

__device__ inline int64_t label_at(const Problem& p, int64_t index) {
  return p.targets_are_int32 ? static_cast<const int32_t*>(p.targets)[index]
                             : static_cast<const int64_t*>(p.targets)[index];
}

__device__ inline bool is_class(const Problem& p, int64_t label) { return label >= 0 && label < p.classes; }

__device__ inline bool is_star(const Problem& p, int64_t label) { return p.has_star && label == p.star; }

// An utterance as the recursion takes it: without frames and labels if its lengths are at fault.
struct Utterance {
  Target target;
  int64_t n;
  int frames, labels;
  int valid_frames;  // logit length, held between 0 and the frames there are
  bool faulty;
};

__device__ inline Utterance utterance_of(const Forward& call, int64_t n) {
  Utterance u;
  u.target = target_of(call.problem, n);
  u.n = n;
  const int64_t length = call.logit_lengths[n];
  u.valid_frames = static_cast<int>(held(length, call.problem.frames));
  u.faulty = u.target.faulty || length != u.valid_frames;
  u.frames = u.faulty ? 0 : u.valid_frames;
  u.labels = u.faulty ? 0 : u.target.labels;
  return u;
}

// First entry of frame t in arrays of `labels + 1` entries a frame.
__device__ inline int64_t row_of(const Problem& p, const Target& target, int labels, int64_t t) {
  return p.frames * target.position + t * (labels + 1);
}

constexpr int kPlaceThreads = 256;

// Where each of the concatenated targets starts.
static __global__ void __launch_bounds__(kPlaceThreads)
    ctc_place_kernel(const int64_t* lengths, int64_t batch, int64_t count, int64_t* starts) {
  __shared__ int64_t sums[kPlaceThreads];
  const int64_t share = (batch + kPlaceThreads - 1) / kPlaceThreads;
  const int64_t first = smaller<int64_t>(threadIdx.x * share, batch), last = smaller<int64_t>(first + share, batch);
  int64_t sum = 0;
  for (int64_t n = first; n < last; ++n) sum += held(lengths[n], count);
  sums[threadIdx.x] = sum;
  __syncthreads();
  int64_t start = 0;
  for (unsigned i = 0; i < threadIdx.x; ++i) start += sums[i];
  for (int64_t n = first; n < last; ++n) {
    starts[n] = smaller(start, count);
    start += held(lengths[n], count);
  }
  if (threadIdx.x == kPlaceThreads - 1) starts[batch] = start;
}

// A slot of an occupancy row and its class: slot 0 is the blank, slot j + 1 is label j.
struct alignas(8) Slot {
  int32_t class_number;  // the number of classes for a label that is none
  int32_t slot;
};

constexpr int kSortThreads = 256;

__device__ inline int32_t class_of_slot(const Problem& p, const Target& target, int slot) {
  if (slot == 0) return static_cast<int32_t>(p.blank);
  const int64_t label = label_at(p, target.start + slot - 1);
  return static_cast<int32_t>(is_class(p, label) ? label : p.classes);
}

// Sorts the slots of each utterance by class, equal classes by slot: each thread counts how many go before its own.
// That is S steps of a block for 256 slots, where a sorting network would take log^2 S barriers of all.
static __global__ void __launch_bounds__(kSortThreads) ctc_sort_kernel(Problem p) {
  __shared__ int32_t tile[kSortThreads];
  const Target target = target_of(p, blockIdx.x);
  const int slots = target.labels + 1, own = blockIdx.y * kSortThreads + threadIdx.x;
  if (static_cast<int>(blockIdx.y) * kSortThreads >= slots) return;
  const int32_t own_class = own < slots ? class_of_slot(p, target, own) : 0;
  int before = 0;
  for (int first = 0; first < slots; first += kSortThreads) {
    const int other = first + static_cast<int>(threadIdx.x);
    if (other < slots) tile[threadIdx.x] = class_of_slot(p, target, other);
    __syncthreads();
    const int in_tile = smaller(kSortThreads, slots - first);
    for (int i = 0; i < in_tile; ++i) before += tile[i] < own_class || (tile[i] == own_class && first + i < own);
    __syncthreads();
  }
  if (own < slots) static_cast<Slot*>(p.sorted_slots)[target.position + before] = {own_class, own};
}

// The sum of a frame's occupancies over all slots of one class, in the order of the slots, if entry `i` is the first of
// its class; returns whether it is.
template <typename Real>
__device__ inline bool sum_of_class(int64_t classes, const Slot* sorted, int slots, int i, const Real* occupancy,
                                    Real& sum) {
  const int32_t own = sorted[i].class_number;
  if (own >= classes || (i > 0 && sorted[i - 1].class_number == own)) return false;
  sum = Real(0);
  for (; i < slots && sorted[i].class_number == own; ++i) sum += occupancy[sorted[i].slot];
  return true;
}

}  // namespace lisa::ctc
