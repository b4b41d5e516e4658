// Register kernels of matrix products: C [rows, columns] fp32 = or += A B.  The second matrix is packed in strips of 64
// columns.  What is contracted comes in units: one value, or two bf16 values of a 32-bit word where the machine
// multiplies such pairs.
#pragma once
#include "../../core/simd.h"

namespace lisa::LISA_CAPABILITY {

constexpr int kStrip = 64;  // columns
constexpr int kLanes = Simd<float>::kLanes;
using Vec = VecOf<float>;

// fp32 operands; bf16 and fp16 inputs are widened when they are packed.
struct SingleProducts {
  using Unit = float;
  using Value = float;
  static constexpr int kPack = 1;
  static Vec load_unit(const Unit* p) { return load(p); }
  static Vec broadcast(const Unit* p) { return *p - Vec{}; }
  static Vec multiply_add(Vec a, Vec b, Vec c) { return a * b + c; }
};

#if defined(__AVX512BF16__)
struct PairProducts {
  using Unit = uint32_t;
  using Value = uint16_t;
  static constexpr int kPack = 2;
  static __m512bh load_unit(const Unit* p) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p)); }
  static __m512bh broadcast(const Unit* p) {
    return reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(*p)));
  }
  static Vec multiply_add(__m512bh a, __m512bh b, Vec c) { return _mm512_dpbf16_ps(c, a, b); }
};
#endif

// The first matrix: unit (row, k) at data[row * row_stride + k * unit_stride], so a transposed one is no other case.
template <typename Unit>
struct Left {
  const Unit* data;
  int64_t row_stride, unit_stride;
};

// The second matrix: unit (k, column) of a strip at data[k * kStrip + column].
template <typename Unit>
struct Right {
  const Unit* data;
  int64_t strip_stride;
};

// 24 accumulators, 4 of B and 1 of A of the 32 registers of AVX-512; 12, 2 and 1 of the 16 of the others.
constexpr int kBlockRows = 6;
constexpr int kBlockVectors = kVectorBytes == 64 ? 4 : 2;

// `blocks` blocks of kRows rows below each other: a call for each would cost 36 of the 770 cycles of a block.
template <typename Products, int kRows, int kVectors>
__attribute__((noinline)) void multiply_blocks(int64_t blocks, int64_t units, Left<typename Products::Unit> a,
                                               const typename Products::Unit* b, float* c, int64_t c_stride, bool add) {
  for (; blocks > 0; --blocks) {
    Vec sum[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Vec{};
    for (int64_t k = 0; k < units; ++k) {
      decltype(Products::load_unit(b)) right[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) right[v] = Products::load_unit(b + k * kStrip + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const auto left = Products::broadcast(a.data + r * a.row_stride + k * a.unit_stride);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[r][v] = Products::multiply_add(left, right[v], sum[r][v]);
      }
    }
    // Sums of a block are added to those before: one by one, 2048 of them cost up to 5 times the error of torch's SDPA.
    if (add) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[r][v] += load(c + r * c_stride + v * kLanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r, c += c_stride)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) store(c + v * kLanes, sum[r][v]);
    a.data += kRows * a.row_stride;
  }
}

template <typename Products, int kVectors>
void multiply_columns(int64_t rows, int64_t units, Left<typename Products::Unit> a, const typename Products::Unit* b,
                      float* c, int64_t c_stride, bool add) {
  const int64_t blocks = rows / kBlockRows;
  multiply_blocks<Products, kBlockRows, kVectors>(blocks, units, a, b, c, c_stride, add);
  a.data += blocks * kBlockRows * a.row_stride;
  c += blocks * kBlockRows * c_stride;
  switch (rows % kBlockRows) {
    case 5: return multiply_blocks<Products, 5, kVectors>(1, units, a, b, c, c_stride, add);
    case 4: return multiply_blocks<Products, 4, kVectors>(1, units, a, b, c, c_stride, add);
    case 3: return multiply_blocks<Products, 3, kVectors>(1, units, a, b, c, c_stride, add);
    case 2: return multiply_blocks<Products, 2, kVectors>(1, units, a, b, c, c_stride, add);
    case 1: return multiply_blocks<Products, 1, kVectors>(1, units, a, b, c, c_stride, add);
    default: return;
  }
}

// Columns are rounded up to whole vectors: C has room for them, and what is packed there is finite.
template <typename Products>
void multiply(int64_t rows, int64_t columns, int64_t units, Left<typename Products::Unit> a,
              Right<typename Products::Unit> b, float* c, int64_t c_stride, bool add) {
  constexpr int64_t kStep = kBlockVectors * kLanes;
  for (int64_t column = 0; column < columns; column += kStep) {
    const auto* strip = b.data + column / kStrip * b.strip_stride + column % kStrip;
    switch ((columns - column + kLanes - 1) / kLanes) {
      case 1: multiply_columns<Products, 1>(rows, units, a, strip, c + column, c_stride, add); break;
#if defined(__AVX512F__)
      case 2: multiply_columns<Products, 2>(rows, units, a, strip, c + column, c_stride, add); break;
      case 3: multiply_columns<Products, 3>(rows, units, a, strip, c + column, c_stride, add); break;
#endif
      default: multiply_columns<Products, kBlockVectors>(rows, units, a, strip, c + column, c_stride, add);
    }
  }
}

}  // namespace lisa::LISA_CAPABILITY
