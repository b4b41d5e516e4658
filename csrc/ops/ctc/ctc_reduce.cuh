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

// The sums of kCount values over a warp at once: value i to the lanes from i * kWarp / kCount on.  Each sum is the same
// as by reduce_warp, bit for bit.  Steps halve the values as well: 9 shuffles for 8 values, where each by itself
// takes 40.
template <int kCount, typename Real>
__device__ inline Real reduce_each(Real (&values)[kCount]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int half = kCount / 2, distance = kWarp / 2; distance > 0; half /= 2, distance /= 2) {
    if (half == 0) {
      values[0] += __shfl_xor_sync(kAllLanes, values[0], distance);
      continue;
    }
    const bool is_upper = (lane & distance) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const Real own = is_upper ? values[i + half] : values[i], other = is_upper ? values[i] : values[i + half];
      values[i] = own + __shfl_xor_sync(kAllLanes, other, distance);
    }
  }
  return values[0];
}

}  // namespace lisa::ctc
