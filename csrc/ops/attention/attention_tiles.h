// What forward and backward share: scratch, blocks of packed keys, which panels of a block a tile of queries sees.
#pragma once
#include "../../core/arena.h"
#include "attention_pack.h"

namespace lisa::LISA_CAPABILITY {

constexpr int kMostClasses = 32;
// Panels of the next unit's keys that are asked for: a fifth of an L2 cache of 1 MiB at D = 64 in bf16.
constexpr int64_t kPanelsAhead = 12;
constexpr float kLog2E = 1.44269504f;

// A panel of keys that a tile of queries sees.  limits[row] of the group's keys are seen by a row; null: all are.
struct SeenPanel {
  int64_t panel;  // of the block
  int32_t count;
  int32_t start;  // of its group
  const int32_t* limits;

  // How many of its keys a row sees; all of them stand in front.
  int seen_by(int64_t row) const {
    if (!limits) return count;
    const int left = limits[row] - start;
    return left < 0 ? 0 : left < count ? left : count;
  }
};

// limits[row]: keys of the group whose positions are not larger than that of the row.  Both ascend.
static inline void find_limits(const AttentionProblem& p, const AttentionTile& tile, const AttentionGroup& keys,
                               int32_t* limits) {
  const int32_t* position = p.key_tokens.position + keys.first;
  int64_t low = 0, high = keys.count;
  const int32_t first = p.query_tokens.position[tile.first];
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (position[middle] <= first)
      low = middle + 1;
    else
      high = middle;
  }
  for (int row = 0; row < tile.count; ++row) {
    const int32_t own = p.query_tokens.position[tile.first + row];
    while (low < keys.count && position[low] <= own) ++low;
    limits[row] = static_cast<int32_t>(low);
  }
}

// The panels of a block that one tile of queries of one head sees.
struct SeenPanels {
  SeenPanel* list;  // [panels of a block]
  int32_t* limits;  // [kMostClasses, kPanelTokens]
  int64_t count = 0;

  SeenPanels(Arena& arena, int64_t block)
      : list(arena.take<SeenPanel>(block)), limits(arena.take<int32_t>(kMostClasses * kPanelTokens)) {}

  void find(const AttentionProblem& p, int64_t head, const AttentionTile& tile, int64_t first_panel,
            int64_t end_panel) {
    count = 0;
    const int kind = p.query_tokens.groups[tile.group].kind;
    int64_t group = -1;
    int32_t* group_limits = limits - kPanelTokens;
    Visibility seen = Visibility::kNone;
    for (int64_t i = first_panel; i < end_panel; ++i) {
      const AttentionTile& panel = p.key_tokens.tiles[i];
      const AttentionGroup& keys = p.key_tokens.groups[panel.group];
      if (panel.group != group) {
        group = panel.group;
        seen = visibility_of(p, p.head_type[head], kind, keys.kind);
        if (seen == Visibility::kCausal) find_limits(p, tile, keys, group_limits += kPanelTokens);
      }
      const int32_t start = static_cast<int32_t>(panel.first - keys.first);
      if (seen == Visibility::kNone) continue;
      if (seen == Visibility::kCausal && group_limits[tile.count - 1] <= start) continue;
      const bool whole = seen == Visibility::kFull || group_limits[0] >= start + panel.count;
      list[count++] = {i - first_panel, panel.count, start, whole ? nullptr : group_limits};
    }
  }
};

// Whether any query of a unit sees any key of a group.
static inline bool unit_sees(const AttentionProblem& p, const AttentionUnit& unit, int key_kind) {
  const int64_t group = p.query_heads / p.key_heads;
  int64_t query_group = -1;
  for (int64_t t = unit.first_query_tile; t < unit.end_query_tile; ++t) {
    if (p.query_tokens.tiles[t].group == query_group) continue;
    query_group = p.query_tokens.tiles[t].group;
    for (int64_t h = unit.key_head * group; h < (unit.key_head + 1) * group; ++h)
      if (visibility_of(p, p.head_type[h], p.query_tokens.groups[query_group].kind, key_kind) != Visibility::kNone)
        return true;
  }
  return false;
}

// Announces a query tile's share of the keys that the thread packs next.
template <typename In>
void look_at_keys_of_next(const AttentionProblem& p, const AttentionUnit& unit, const AttentionUnit& next, int64_t t,
                          RowsAhead<In>& ahead) {
  const int64_t panels = smaller(next.end_key_tile - next.first_key_tile, kPanelsAhead);
  const int64_t tiles = unit.end_query_tile - unit.first_query_tile;
  for (int64_t i = panels * t / tiles; i < panels * (t + 1) / tiles; ++i) {
    const AttentionTile& panel = p.key_tokens.tiles[next.first_key_tile + i];
    const int64_t* token = p.key_tokens.token + panel.first;
    ahead.add(p.k, next.key_head, token, panel.count, p.width, false);
    ahead.add(p.v, next.key_head, token, panel.count, p.value_width, false);
  }
}

// Calls body(panel) for the panels of a block that some query of the unit sees.
template <typename Body>
void each_seen_panel(const AttentionProblem& p, const AttentionUnit& unit, int64_t first, int64_t end, Body body) {
  int64_t group = -1;
  bool seen = false;
  for (int64_t i = first; i < end; ++i) {
    if (p.key_tokens.tiles[i].group != group) {
      group = p.key_tokens.tiles[i].group;
      seen = unit_sees(p, unit, p.key_tokens.groups[group].kind);
    }
    if (seen) body(i);
  }
}

// Calls body(first_panel, end_panel) for blocks of a unit's keys of nearly equal size.
template <typename Body>
void each_block(const AttentionUnit& unit, int64_t block, Body body) {
  const int64_t panels = unit.end_key_tile - unit.first_key_tile, blocks = (panels + block - 1) / block;
  for (int64_t b = 0; b < blocks; ++b)
    body(unit.first_key_tile + panels * b / blocks, unit.first_key_tile + panels * (b + 1) / blocks);
}

// --- powers of two and lanes -------------------------------------------------------------------------------------

using IntVec = IntVecOf<float>;

// For r in [0, 1], exact at both ends: 3.3e-6, a thousandth of what bf16 rounds (own fit as in core/simd.h).
static inline Vec exp2_unit_for_bfloat16(Vec r) {
  Vec p = Vec{} + 1.355574706e-02f;
  p = p * r + 5.203236929e-02f;
  p = p * r + 2.413797628e-01f;
  p = p * r + 6.930321208e-01f;
  return p * r + 1.0f;
}

// 2^x for x up to about 0; 2^-inf is 0.  Relative error 2e-7, or 3e-6 where the result is rounded to bf16.
template <typename Products>
static inline Vec exp2_nonpositive(Vec x) {
#if defined(__AVX512F__)
  const Vec r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  return _mm512_scalef_ps(Products::kPack == 1 ? exp2_unit(r) : exp2_unit_for_bfloat16(r), x);
#else
  const Vec lowest = Vec{} - 127.f;
  const Vec held = x < lowest ? lowest : x;
  const Vec whole = round_to_whole<float>(held - 0.5f);
  return times_pow2<float>(exp2_unit(held - whole), __builtin_convertvector(whole, IntVec));
#endif
}

// log2 of positive normal numbers as a whole number and a fraction in [-1/2, 1/2] with an error of 3e-8: own minimax
// fit of log2(1 + t), 6.7e-9 before rounding.
static inline void split_log2(Vec x, Vec& whole, Vec& fraction) {
  const IntVec bits = reinterpret_cast<IntVec>(x);
  const IntVec exponent = (bits - 0x3f3504f3) >> 23;  // the mantissa then lies between the roots of 1/2 and 2
  const Vec t = reinterpret_cast<Vec>(bits - (exponent << 23)) - 1.f;
  Vec p = Vec{} + 1.254124407e-01f;
  p = p * t - 2.103033427e-01f;
  p = p * t + 2.173793816e-01f;
  p = p * t - 2.385194370e-01f;
  p = p * t + 2.876566752e-01f;
  p = p * t - 3.607211954e-01f;
  p = p * t + 4.809225289e-01f;
  p = p * t - 7.213471285e-01f;
  p = p * t + 1.442694869e+00f;
  whole = __builtin_convertvector(exponent, Vec);
  fraction = p * t;
}

static inline float highest_lane(Vec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(x);
#else
  return max_lanes<float>(x);
#endif
}

// Halves are added to each other, as in sum_lanes.
static inline float add_lanes(Vec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(x);
#else
  return sum_lanes<float>(x);
#endif
}

static inline IntVec lane_numbers() {
  IntVec lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  return lanes;
}

// The first `count` lanes of x (all of them from kLanes on, none from 0 down), and the filler in the others.
static inline Vec keep_lanes(Vec x, int count, float filler) {
  return lane_numbers() < IntVec{} + count ? x : filler - Vec{};
}

// Two neighbouring vectors of weights as part of the first matrix of a product.
static inline void store_weights(float* p, Vec low, Vec high) {
  store(p, low);
  store(p + kLanes, high);
}
#if defined(__AVX512BF16__)
static inline __m512i to_bfloat16(Vec low, Vec high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}
static inline void store_weights(uint16_t* p, Vec low, Vec high) { _mm512_storeu_si512(p, to_bfloat16(low, high)); }
#endif

}  // namespace lisa::LISA_CAPABILITY
