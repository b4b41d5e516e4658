// Reductions over a warp, in a fixed order.
#pragma once
#include "ctc_scaled.cuh"

namespace lisa::ctc {

struct Larger {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return larger(a, b);
  }
};
struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

template <typename T, typename Combine>
__device__ inline T reduce_warp(T value, Combine combine) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

}  // namespace lisa::ctc
