// Brings tokens of one head into the forms that attention_gemm.h multiplies.
#pragma once
#include "attention.h"
#include "attention_gemm.h"

namespace lisa::LISA_CAPABILITY {

template <typename T>
static inline T smaller(T a, T b) {
  return a < b ? a : b;
}

static inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Sizes of one head's panels in units.
template <typename Products>
struct Width {
  int64_t values;  // D or DV
  explicit Width(int64_t values) : values(values) {}
  int64_t units() const { return values / Products::kPack; }
  // Of a staged row, and of a row of sums: whole vectors of every capability.
  int64_t row_units() const { return round_up(units(), 16); }
  int64_t row_values() const { return round_up(values, 16); }
  int64_t staged() const { return kPanelTokens * row_units(); }
  int64_t transposed() const { return kStrip * row_units(); }
  int64_t strip() const { return kPanelTokens / Products::kPack * kStrip; }
  int64_t strips() const { return round_up(values, kStrip) / kStrip * strip(); }
  int64_t sums() const { return kPanelTokens * row_values(); }
};

// Fills `out` with a row of `width` values and zeros up to `row_units`.
template <typename In>
static inline void stage_row(const In* x, int64_t width, int64_t row_units, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) store(out + i, load(x + i));
  for (; i < row_units; i += kLanes)
    store(out + i, load_some<float>(x + i, static_cast<int>(width - i < 0 ? 0 : width - i), 0.f));
}

#if defined(__AVX512BF16__)
static inline void stage_row(const BFloat16* x, int64_t width, int64_t row_units, uint32_t* out) {
  for (int64_t i = 0; i < row_units; i += 16) {
    const int64_t left = width - 2 * i;
    const __mmask32 real = left >= 32 ? ~0u : left <= 0 ? 0 : (1u << left) - 1;
    _mm512_storeu_si512(out + i, _mm512_maskz_loadu_epi16(real, x + 2 * i));
  }
}
#endif

// Tokens as rows, a first matrix [count, row_units]; rows of zeros follow up to a multiple of 16.
template <typename Products, typename In>
void stage(const AttentionMatrix& m, int64_t head, const int64_t* token, int64_t count, Width<Products> width,
           typename Products::Unit* out) {
  const In* base = static_cast<const In*>(m.data) + head * m.head_stride;
  const int64_t stride = width.row_units();
  for (int64_t i = 0; i < count; ++i)
    stage_row(base + token[i] * m.token_stride, width.values, stride, out + i * stride);
  std::memset(out + count * stride, 0, static_cast<size_t>((round_up(count, 16) - count) * stride * 4));
}

// Asks for rows that are staged or written soon, a few at a time: a head's rows lie far apart, which the machine does
// not foresee, and more at once than it can wait for stall as loads do.
template <typename In>
class RowsAhead {
 public:
  // Rows beyond what the queue holds are not asked for.
  void add(const AttentionMatrix& m, int64_t head, const int64_t* token, int64_t count, int64_t width, bool written) {
    if (!m.data || last_ - first_ == kMost) return;
    constexpr int64_t size = sizeof(In);
    const char* base = static_cast<const char*>(m.data) + head * m.head_stride * size;
    queue_[last_++ % kMost] = {base, token, m.token_stride * size, width * size, count, written};
  }

  void ask(int64_t rows) {
    while (rows > 0 && first_ < last_) {
      Rows& now = queue_[first_ % kMost];
      const int64_t count = smaller(rows, now.count);
      now.written ? ask<1>(now, count) : ask<0>(now, count);
      rows -= count, now.token += count, now.count -= count;
      if (now.count == 0) ++first_;
    }
  }

 private:
  struct Rows {
    const char* base;
    const int64_t* token;
    int64_t stride, bytes, count;
    bool written;
  };
  static constexpr uint64_t kMost = 64;

  template <int kWrite>
  static void ask(const Rows& rows, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const char* row = rows.base + rows.token[i] * rows.stride;
      for (int64_t b = 0; b < rows.bytes; b += 64) __builtin_prefetch(row + b, kWrite, 2);
    }
  }

  Rows queue_[kMost];
  uint64_t first_ = 0, last_ = 0;
};

#if defined(__AVX512F__)
// 16 rows of 16 units to 16 rows of 16.
static inline void transpose16(const void* source, int64_t source_stride, void* target, int64_t target_stride) {
  const auto* in = static_cast<const uint32_t*>(source);
  auto* out = static_cast<uint32_t*>(target);
  __m512i r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_si512(in + i * source_stride);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    _mm512_storeu_si512(out + i * target_stride, _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88));
    _mm512_storeu_si512(out + (i + 8) * target_stride, _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd));
  }
}
#else
static inline void transpose16(const float* in, int64_t source_stride, float* out, int64_t target_stride) {
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) out[j * target_stride + i] = in[i * source_stride + j];
}
#endif

// Staged rows as a second matrix that is contracted over the width: [row_units, kStrip tokens].
template <typename Products>
void transpose_panel(const typename Products::Unit* staged, int64_t count, Width<Products> width,
                     typename Products::Unit* out) {
  const int64_t stride = width.row_units();
  for (int64_t i = 0; i < count; i += 16)
    for (int64_t u = 0; u < stride; u += 16) transpose16(staged + i * stride + u, stride, out + u * kStrip + i, kStrip);
}

// Staged rows as a second matrix that is contracted over the tokens: strips of [tokens, kStrip values].
template <typename Products>
void pack_strips(const float* staged, int64_t count, Width<Products> width, int64_t strip_stride, float* out) {
  const int64_t stride = width.row_units();
  for (int64_t column = 0; column < width.values; column += kStrip) {
    const int64_t columns = stride - column < kStrip ? stride - column : kStrip;
    float* strip = out + column / kStrip * strip_stride;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t c = 0; c < columns; c += kLanes)
        store(strip + i * kStrip + c, load(staged + i * stride + column + c));
  }
}

#if defined(__AVX512BF16__)
// ... of pairs of tokens.
template <typename Products>
void pack_strips(const uint32_t* staged, int64_t count, Width<Products> width, int64_t strip_stride, uint32_t* out) {
  const auto* rows = reinterpret_cast<const uint16_t*>(staged);
  const int64_t stride = 2 * width.row_units();
  for (int64_t column = 0; column < width.values; column += 16) {
    uint32_t* strip = out + column / kStrip * strip_stride + column % kStrip;
    for (int64_t i = 0; i < count; i += 2) {
      const __m512i even = _mm512_cvtepu16_epi32(load_vector<__m256i>(rows + i * stride + column));
      const __m512i odd = _mm512_cvtepu16_epi32(load_vector<__m256i>(rows + (i + 1) * stride + column));
      _mm512_storeu_si512(strip + i / 2 * kStrip, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
    }
  }
}
#endif

}  // namespace lisa::LISA_CAPABILITY
