// How threads share a row of logits: it belongs to a warp, or to a block where it has many classes, and each access has
// 128 bits.
#pragma once
#include "ctc_reduce.cuh"

namespace lisa::ctc {

constexpr int kRowBlock = 256;
// Rows of more classes get a whole block.
constexpr int kMostClassesOfAWarp = 1024;

// Elements of In in one access of 128 bits.
template <typename In>
constexpr int kVector = 16 / static_cast<int>(sizeof(In));
// Accesses of a row that a thread holds in registers, so that the row is read once: 32 floats, 16 doubles.
template <typename In>
constexpr int kHeld = 128 / static_cast<int>(sizeof(RealOf<In>)) / kVector<In>;

// The threads of a row.
template <int kThreads>
struct RowThreads {
  static constexpr int kRows = kRowBlock / kThreads;
  static __device__ int lane() { return threadIdx.x % kThreads; }
  static __device__ void sync() {
    if constexpr (kThreads == kWarp)
      __syncwarp();
    else
      __syncthreads();
  }
};

// To all threads of a row, in a fixed order.
template <int kThreads, typename T, typename Combine>
__device__ inline T reduce_row(T value, Combine combine) {
  value = reduce_warp(value, combine);
  if constexpr (kThreads == kRowBlock) {
    __shared__ T warps[kRowBlock / kWarp];
    __syncthreads();
    if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = warps[0];
#pragma unroll
    for (int i = 1; i < kRowBlock / kWarp; ++i) value = combine(value, warps[i]);
  }
  return value;
}

// Elements between the last 128-bit boundary at or before `p` and `p`.
template <typename In>
__device__ inline int elements_past_boundary(const In* p) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(p) % 16 / sizeof(In));
}

// How elements [begin, end) of a row lie on 128-bit boundaries: first the head, then whole vectors, then the tail. Head
// and tail together are fewer elements than a warp has lanes.
struct Span {
  int begin, end;
  int first;    // element of the first vector
  int vectors;  // may be 0

  // `boundary` is an element, perhaps outside of the row, that lies on one.
  template <typename In>
  static __device__ Span of(int begin, int end, int boundary) {
    const int past = (begin - boundary) % kVector<In>;
    const int first = smaller(past ? begin + kVector<In> - past : begin, end);
    return {begin, end, first, (end - first) / kVector<In>};
  }
  template <typename In>
  __device__ int last() const {
    return first + vectors * kVector<In>;
  }
  // The lane's element of head or tail, or -1.
  template <typename In>
  __device__ int edge(int lane) const {
    if (begin + lane < first) return begin + lane;
    const int element = last<In>() + lane - (first - begin);
    return element < end ? element : -1;
  }
};

// Whole accesses of 128 bits.
template <int kCount, typename In>
__device__ inline void load_vectors(const In* p, RealOf<In> (&out)[kCount]) {
  constexpr int kAccesses = kCount / kVector<In>;
  static_assert(kAccesses * kVector<In> == kCount, "whole accesses");
  union {
    uint4 words[kAccesses];
    In elements[kCount];
  } loaded;
#pragma unroll
  for (int a = 0; a < kAccesses; ++a) loaded.words[a] = reinterpret_cast<const uint4*>(p)[a];
#pragma unroll
  for (int i = 0; i < kCount; ++i) out[i] = to_real(loaded.elements[i]);
}

template <typename Out>
__device__ inline void store_vector(Out* p, const RealOf<Out> (&in)[kVector<Out>]) {
  union {
    uint4 words;
    Out elements[kVector<Out>];
  } rounded;
#pragma unroll
  for (int i = 0; i < kVector<Out>; ++i) from_real(in[i], rounded.elements[i]);
  *reinterpret_cast<uint4*>(p) = rounded.words;
}

}  // namespace lisa::ctc
