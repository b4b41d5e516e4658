// Back pointers: which way the best path came to each position.  Three bits a position, of eight positions in a row of
// three bytes; a frame has rows from its first position on, held to a multiple of eight.
#pragma once
#include "../../core/simd.h"

namespace lisa::LISA_CAPABILITY {

constexpr int64_t kPositionsOfARow = 8;

struct MoveRow {
  // The label was come onto, by skipping a blank, and the blank was come onto; else a path stayed.
  uint8_t onto_label, by_skip, onto_blank;
};

// Whether each lane of a comparison holds, as bits.
static inline unsigned bits_of(IntVecOf<double> comparison) {
#if defined(__AVX512F__)
  return _mm512_movepi64_mask(reinterpret_cast<__m512i>(comparison));
#elif defined(__AVX2__)
  return static_cast<unsigned>(_mm256_movemask_pd(reinterpret_cast<__m256d>(comparison)));
#elif defined(__SSE2__)
  return static_cast<unsigned>(_mm_movemask_pd(reinterpret_cast<__m128d>(comparison)));
#else
  unsigned bits = 0;
  for (int i = 0; i < Simd<double>::kLanes; ++i) bits |= static_cast<unsigned>(comparison[i] & 1) << i;
  return bits;
#endif
}

// Positions of each frame that a path through the whole target may be in, and that the band allows.
struct Window {
  int64_t frames, labels, band;  // band 0: none

  int64_t first(int64_t t) const {
    // As many labels as frames are left.
    int64_t first = labels - frames + t;
    if (first < 0) first = 0;
    if (band == 0) return first;
    const int64_t of_band = (t * labels + frames - 1) / frames - band;
    return of_band > first ? of_band : first;
  }
  int64_t last(int64_t t) const {
    int64_t last = t < labels ? t : labels;
    if (band == 0) return last;
    const int64_t of_band = t * labels / frames + band;
    return of_band < last ? of_band : last;
  }
  // Where the rows of a frame begin.
  int64_t origin(int64_t t) const { return first(t) / kPositionsOfARow * kPositionsOfARow; }

  static int64_t rows(int64_t labels, int64_t band) {
    const int64_t of_target = labels / kPositionsOfARow + 1;
    if (band == 0) return of_target;
    const int64_t of_band = (2 * band + kPositionsOfARow) / kPositionsOfARow + 1;
    return of_band < of_target ? of_band : of_target;
  }
};

}  // namespace lisa::LISA_CAPABILITY
