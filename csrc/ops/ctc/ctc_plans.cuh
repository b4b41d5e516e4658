// Which plan walks which target.
#pragma once
#include "ctc_walk.cuh"

namespace lisa::ctc {

template <typename Real>
struct Plans;
template <>
struct Plans<float> {
  static constexpr int kMostPairs = 8;
  // 57 KiB of shared memory, which every GPU from sm_80 on has.
  using Block = Plan<float, 4, 8>;
};
template <>
struct Plans<double> {
  static constexpr int kMostPairs = 2;
  using Block = Plan<double, 2, 4>;
};

// Most labels that a single warp walks.
template <typename Real>
constexpr int kMostOfAWarp = kWarp * Plans<Real>::kMostPairs;

// Parts of a frame's sum over blanks.
template <typename Real>
__host__ __device__ inline int parts_of(int64_t block_above, int64_t labels) {
  using Block = typename Plans<Real>::Block;
  if (labels <= block_above) return 1;
  const int64_t strips = (labels + Block::kStrip - 1) / Block::kStrip;
  return static_cast<int>(strips < 1 ? 1 : strips) * Block::kWarps;
}

}  // namespace lisa::ctc
