// Greedy decoding on the CPU.  Compiled once per CPU capability; core/simd.h says what that forbids.
#include "../ctc/ctc_rows.h"
#include "ctc_greedy_decode.h"

namespace lisa::LISA_CAPABILITY {
namespace {

// The first class with this value; of nothing but NaN and -inf the first of all.
template <typename Real, typename In>
int32_t first_equal(const In* x, int64_t classes, Real value) {
  constexpr int kLanes = Simd<Real>::kLanes;
  if (value == -__builtin_inf()) return 0;
  int64_t c = 0;
  for (; c + kLanes <= classes; c += kLanes) {
    const auto equal = load(x + c) == value;
    bool any = false;
    for (int i = 0; i < kLanes; ++i) any |= equal[i] != 0;
    if (any) break;
  }
  for (; c < classes; ++c)
    if (to_real(x[c]) == value) return static_cast<int32_t>(c);
  return 0;
}

int64_t held_frames(const CtcGreedyDecode& p, int64_t n) {
  const int64_t length = p.logit_lengths[n];
  return length < 0 ? 0 : (length > p.frames ? p.frames : length);
}

// From best classes to labels.
template <typename Real>
void collapse(const CtcGreedyDecode& p, int64_t n) {
  const int64_t frames = held_frames(p, n), row = n * p.frames;
  const int32_t* best = p.best + row;
  const Real* log_prob = static_cast<const Real*>(p.log_prob) + row;
  int64_t count = 0;
  double score = 0;
  for (int64_t t = 0; t < frames; ++t) {
    score += log_prob[t];
    if (best[t] == p.blank) continue;
    if (t == 0 || best[t] != best[t - 1]) {
      p.ids[row + count] = best[t];
      p.starts[row + count] = t;
      ++count;
    }
    p.ends[row + count - 1] = t + 1;
  }
  p.lengths[n] = count;
  for (; count < p.frames; ++count) p.ids[row + count] = p.starts[row + count] = p.ends[row + count] = -1;
  // A GPU cannot raise for a length out of range: there as here it gives NaN.
  static_cast<Real*>(p.scores)[n] =
      frames == p.logit_lengths[n] ? static_cast<Real>(score) : static_cast<Real>(__builtin_nan(""));
}

template <typename Real, typename In>
void decode(const CtcGreedyDecode& p, int threads) {
  // Along the memory, whichever of T and N comes first in it.
  const bool frames_outside = p.stride_t >= p.stride_n;
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (int64_t r = 0; r < p.frames * p.batch; ++r) {
      const int64_t t = frames_outside ? r / p.batch : r % p.frames;
      const int64_t n = frames_outside ? r % p.batch : r / p.frames;
      if (t >= held_frames(p, n)) continue;
      const In* x = static_cast<const In*>(p.logits) + t * p.stride_t + n * p.stride_n;
      const auto row = row_statistics<Real>(x, x + (frames_outside ? p.stride_n : p.stride_t), p.classes);
      p.best[n * p.frames + t] = first_equal(x, p.classes, row.max);
      static_cast<Real*>(p.log_prob)[n * p.frames + t] = -row.log_sum;
    }
#pragma omp for schedule(static)
    for (int64_t n = 0; n < p.batch; ++n) collapse<Real>(p, n);
  }
}

}  // namespace

void ctc_greedy_decode(const CtcGreedyDecode& p, int threads) {
  switch (p.dtype) {
    case Dtype::kFloat32: return decode<float, float>(p, threads);
    case Dtype::kFloat64: return decode<double, double>(p, threads);
    case Dtype::kBFloat16: return decode<float, BFloat16>(p, threads);
    case Dtype::kFloat16: return decode<float, Float16>(p, threads);
  }
}

}  // namespace lisa::LISA_CAPABILITY
