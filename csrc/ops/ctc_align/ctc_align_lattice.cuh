// One utterance's lattice: which positions a frame has, and where its emissions and back pointers lie.
#pragma once
#include "../ctc/ctc_target.cuh"
#include "ctc_align_cuda.h"

namespace lisa::ctc {

// The positions that the band allows at a frame, by steps of one frame: a division of 64 bits costs 100 instructions.
class Window {
  int frames, labels, band;
  int whole, part;  // t * labels / frames, and what is left over

 public:
  // labels <= frames; band 0: none.
  __device__ Window(int frames_, int labels_, int64_t band_, int t)
      : frames(frames_), labels(labels_), band(band_ == 0 || band_ > labels_ ? labels_ : static_cast<int>(band_)) {
    const int64_t product = int64_t{t} * labels;
    whole = frames == 0 ? 0 : static_cast<int>(product / frames);
    part = frames == 0 ? 0 : static_cast<int>(product % frames);
  }
  __device__ void advance() {
    part += labels;
    if (part >= frames) part -= frames, ++whole;
  }
  __device__ void retreat() {
    part -= labels;
    if (part < 0) part += frames, --whole;
  }
  __device__ int first() const { return larger(whole + (part > 0) - band, 0); }
  __device__ int last() const { return smaller(whole + band, labels); }
};

// An utterance as the search takes it: without frames and labels if its lengths are at fault.
struct Aligned {
  Target target;
  int64_t n;
  int frames, labels;
  bool faulty;

  // With fewer frames than labels there is no path, and no window.
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

__device__ inline bool is_star(const Align& call, int64_t label) { return call.has_star && label == call.star; }

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
  __device__ int origin(const Window& window) const { return banded ? 1 - window.first() : 1; }
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
  __device__ int origin(const Window& window) const { return banded ? window.first() / kWarp : 0; }
  __device__ uint32_t* group(int64_t t, int in_row) const { return rows + (t * groups + in_row) * kPlanes; }
};

}  // namespace lisa::ctc
