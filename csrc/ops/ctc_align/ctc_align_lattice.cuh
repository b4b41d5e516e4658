// One utterance's lattice: which positions a frame has, and where its emissions and back pointers lie.
#pragma once
#include "../ctc/ctc_target.cuh"
#include "ctc_align_cuda.h"

namespace lisa::ctc {

// Positions that the band allows at a frame, the last one included.
struct alignas(8) Window {
  int first, last;
};

// An utterance as the search takes it: without frames and labels if its lengths are at fault.
struct Aligned {
  Target target;
  int64_t n;
  int frames, labels;
  bool faulty;

  // With fewer frames than labels there is no path.
  __device__ bool has_room() const { return labels <= frames; }
};

__device__ inline Aligned aligned_of(const Align& call, int64_t n) {
  Aligned u;
  u.target = target_of(call.problem, n);
  u.n = n;
  const int64_t length = call.logit_lengths[n];
  const int frames = static_cast<int>(held(length, call.problem.frames));
  u.faulty = u.target.faulty || length != frames;
  u.frames = u.faulty ? 0 : frames;
  u.labels = u.faulty ? 0 : u.target.labels;
  return u;
}

// Labels are not more than frames.
__device__ inline Window window_at(const Align& call, const Aligned& u, int64_t t) {
  if (call.band == 0) return {0, u.labels};
  const int64_t product = t * u.labels;
  const int64_t first = (product + u.frames - 1) / u.frames - call.band, last = product / u.frames + call.band;
  return {static_cast<int>(larger<int64_t>(first, 0)), static_cast<int>(smaller<int64_t>(last, u.labels))};
}

// The same, as the row pass has left it: a division of 64 bits is a call, around which registers are spilled.
__device__ inline Window window_of(const Align& call, const Aligned& u, int64_t t) {
  if (call.band == 0) return {0, u.labels};
  return static_cast<const Window*>(call.windows)[u.n * call.problem.frames + t];
}

// Rows of search scores: the blank's, then those of labels from the frame's first position on.
template <typename Real>
struct Emissions {
  Real* rows;
  int width;
  bool banded;

  __device__ Emissions(const Align& call, const Aligned& u) : banded(call.banded_rows) {
    const Problem& p = call.problem;
    // The band is narrower than any int here.
    width = banded ? 2 * static_cast<int>(call.band) + 2 : u.labels + 1;
    rows = static_cast<Real*>(call.emissions) + p.frames * (banded ? u.n * width : u.target.position);
  }
  __device__ Real* row(int64_t t) const { return rows + t * width; }
  // Slot of label 0.
  __device__ int origin(Window window) const { return banded ? 1 - window.first : 1; }
};

// Back pointers, three bits a position: the label was come onto, by skipping a blank; the blank was come onto.  Else
// the path stayed.  A group of 32 positions has a word for each, in this order.
struct Moves {
  static constexpr int kOntoLabel = 0, kBySkip = 1, kOntoBlank = 2, kPlanes = 3;
  uint32_t* rows;
  int groups;  // of a row
  bool banded;

  // Groups that the rows of all utterances before this one take at the most, and of a row with a band.
  __device__ Moves(const Align& call, const Aligned& u) : banded(call.banded_rows) {
    groups = banded ? groups_of_band(call.band) : u.labels / kWarp + 1;
    rows = call.moves + call.problem.frames * kPlanes * (banded ? u.n * groups : u.target.start / kWarp + u.n);
  }
  static __host__ __device__ int groups_of_band(int64_t band) {
    return static_cast<int>((2 * band + kWarp) / kWarp + 1);
  }
  // First group of a row.
  __device__ int origin(Window window) const { return banded ? window.first / kWarp : 0; }
  __device__ uint32_t* group(int64_t t, int in_row) const { return rows + (t * groups + in_row) * kPlanes; }
};

}  // namespace lisa::ctc
