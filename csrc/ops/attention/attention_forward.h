// Forward of one unit: online softmax over steps of up to 256 keys.
#pragma once
#include "attention_tiles.h"

namespace lisa::LISA_CAPABILITY {

constexpr int kStepPanels = 4;
constexpr int kStepKeys = kStepPanels * kPanelTokens;

template <typename Products>
struct ForwardScratch {
  using Unit = typename Products::Unit;
  Unit *keys, *values, *staged, *queries;
  float *scores, *sums, *base;
  Unit* weights;
  Vec* total;
  bool* started;
  SeenPanels seen;
  int64_t bytes;

  ForwardScratch(const AttentionProblem& p, char* memory) : ForwardScratch(p, Arena{memory}) {}

 private:
  ForwardScratch(const AttentionProblem& p, Arena arena)
      : keys(arena.take<Unit>(block(p) * Width<Products>(p.width).transposed())),
        values(arena.take<Unit>(block(p) * Width<Products>(p.value_width).strips())),
        staged(arena.take<Unit>(larger(Width<Products>(p.width).staged(), Width<Products>(p.value_width).staged()))),
        queries(arena.take<Unit>(Width<Products>(p.width).staged())),
        scores(arena.take<float>(kTileRows * kStepKeys)),
        sums(arena.take<float>(p.waiting_tiles * kTileRows * Width<Products>(p.value_width).row_values())),
        base(arena.take<float>(p.waiting_tiles * kTileRows)),
        // fp32 weights overwrite their scores.
        weights(Products::kPack == 1 ? reinterpret_cast<Unit*>(scores)
                                     : arena.take<Unit>(kTileRows * kStepKeys / Products::kPack)),
        total(arena.take<Vec>(p.waiting_tiles * kTileRows)),
        started(arena.take<bool>(p.waiting_tiles)),
        seen(arena, block(p)),
        bytes(arena.used) {}
  static int64_t block(const AttentionProblem& p) { return forward_block_panels(p); }
};

template <typename Products, typename In>
class ForwardUnit {
 public:
  ForwardUnit(const AttentionForward& call, const AttentionUnit& unit, const AttentionUnit& next, RowsAhead<In>& ahead,
              char* memory)
      : call_(call), p_(call.problem), unit_(unit), next_(next), scratch_(call.problem, memory), ahead_(ahead) {}

  void run() {
    const int64_t group = p_.query_heads / p_.key_heads, tiles = unit_.end_query_tile - unit_.first_query_tile;
    const int64_t block = forward_block_panels(p_);
    const bool one_block = unit_.end_key_tile - unit_.first_key_tile <= block;
    for (int64_t i = 0; i < (one_block ? 1 : group * tiles); ++i) scratch_.started[i] = false;
    if (unit_.first_key_tile == unit_.end_key_tile) {
      for (int64_t g = 0; g < group; ++g)
        for (int64_t t = 0; t < tiles; ++t) finish(unit_.key_head * group + g, tile(t), 0);
      return;
    }
    each_block(unit_, block, [&](int64_t first, int64_t end) {
      pack(first, end);
      for (int64_t g = 0; g < group; ++g)
        for (int64_t t = 0; t < tiles; ++t) {
          const int64_t head = unit_.key_head * group + g, slot = one_block ? 0 : g * tiles + t;
          look_ahead(head, t);
          attend(head, tile(t), slot, first, end);
          if (end == unit_.end_key_tile) finish(head, tile(t), slot);
        }
    });
  }

 private:
  using Unit = typename Products::Unit;
  using Sizes = Width<Products>;

  const AttentionTile& tile(int64_t t) const { return p_.query_tokens.tiles[unit_.first_query_tile + t]; }
  // Strips of all panels of a block lie behind each other, so that neighbours are one matrix.
  int64_t value_strip_stride() const { return forward_block_panels(p_) * Sizes(p_.value_width).strip(); }
  float* sums(int64_t slot) const { return scratch_.sums + slot * kTileRows * Sizes(p_.value_width).row_values(); }

  void pack(int64_t first, int64_t end) {
    const Sizes width(p_.width), value_width(p_.value_width);
    each_seen_panel(p_, unit_, first, end, [&](int64_t i) {
      const AttentionTile& panel = p_.key_tokens.tiles[i];
      const int64_t* token = p_.key_tokens.token + panel.first;
      stage<Products, In>(p_.k, unit_.key_head, token, panel.count, width, scratch_.staged);
      transpose_panel(scratch_.staged, panel.count, width, scratch_.keys + (i - first) * width.transposed());
      stage<Products, In>(p_.v, unit_.key_head, token, panel.count, value_width, scratch_.staged);
      pack_strips(scratch_.staged, panel.count, value_width, value_strip_stride(),
                  scratch_.values + (i - first) * value_width.strip());
    });
  }

  // The rows that this tile writes and the next one reads.
  void look_ahead(int64_t head, int64_t t) {
    const AttentionMatrix out{call_.out, p_.query_heads * p_.value_width, p_.value_width};
    const int64_t* token = p_.query_tokens.token;
    if (unit_.first_query_tile + t + 1 < unit_.end_query_tile)
      ahead_.add(p_.q, head, token + tile(t + 1).first, tile(t + 1).count, p_.width, false);
    ahead_.add(out, head, token + tile(t).first, tile(t).count, p_.value_width, true);
    look_at_keys_of_next(p_, unit_, next_, t, ahead_);
  }

  void attend(int64_t head, const AttentionTile& tile, int64_t slot, int64_t first, int64_t end) {
    SeenPanels& seen = scratch_.seen;
    seen.find(p_, head, tile, first, end);
    if (seen.count == 0) return;
    const Sizes width(p_.width);
    stage<Products, In>(p_.q, head, p_.query_tokens.token + tile.first, tile.count, width, scratch_.queries);
    for (int64_t i = 0; i < seen.count; i += kStepPanels) {
      const SeenPanel* panels = seen.list + i;
      const int count = static_cast<int>(smaller(seen.count - i, int64_t{kStepPanels}));
      for (int j = 0; j < count; ++j) {
        ahead_.ask(kAskedRows);
        multiply<Products>(tile.count, panels[j].count, width.units(), {scratch_.queries, width.row_units(), 1},
                           {scratch_.keys + panels[j].panel * width.transposed(), 0},
                           scratch_.scores + j * kPanelTokens, kStepKeys, false);
      }
      switch (count) {
        case 1: soften<1>(panels, tile.count, slot); break;
        case 2: soften<2>(panels, tile.count, slot); break;
        case 3: soften<3>(panels, tile.count, slot); break;
        default: soften<4>(panels, tile.count, slot);
      }
      add_values(panels, count, tile.count, slot);
    }
  }

  // Scores become weights; totals and what was summed before follow a new maximum.
  template <int kPanels>
  void soften(const SeenPanel* panels, int rows, int64_t slot) {
    bool whole = true;
    for (int j = 0; j < kPanels; ++j) whole &= !panels[j].limits && panels[j].count == kPanelTokens;
    whole ? soften<kPanels, true>(panels, rows, slot) : soften<kPanels, false>(panels, rows, slot);
  }

  template <int kPanels, bool kWhole>
  void soften(const SeenPanel* panels, int rows, int64_t slot) {
    constexpr int kVectors = kPanelTokens / kLanes;
    const float factor = p_.scale * kLog2E;
    const bool started = scratch_.started[slot];
    float* base = scratch_.base + slot * kTileRows;
    Vec* total = scratch_.total + slot * kTileRows;
    for (int row = 0; row < rows; ++row) {
      const float* scores = scratch_.scores + row * kStepKeys;
      Vec x[kPanels][kVectors];
      Vec most = Vec{} - __builtin_inff();
#pragma GCC unroll 4
      for (int j = 0; j < kPanels; ++j) {
        const int seen = kWhole ? kPanelTokens : panels[j].seen_by(row);
#pragma GCC unroll 16
        for (int c = 0; c < kVectors; ++c) {
          x[j][c] = load(scores + j * kPanelTokens + c * kLanes);
          if (!kWhole) x[j][c] = keep_lanes(x[j][c], seen - c * kLanes, -__builtin_inff());
          most = larger(x[j][c], most);
        }
      }
      const float highest = highest_lane(most) * factor;
      Vec sum = Vec{};
      if (started) {
        sum = total[row];
        // By the difference of the rounded bases, which is what the weights were and will be relative to.
        if (highest > base[row]) sum = rescale(slot, row, base[row] - highest, sum);
      }
      if (!started || highest > base[row]) base[row] = highest;
      // A row that has seen nothing yet: its scores are -inf, and so are its exponents.
      const Vec subtract = (base[row] == -__builtin_inff() ? 0.f : base[row]) - Vec{};
#pragma GCC unroll 4
      for (int j = 0; j < kPanels; ++j)
#pragma GCC unroll 8
        for (int c = 0; c < kVectors; c += 2) {
          const Vec low = exp2_nonpositive<Products>(x[j][c] * factor - subtract);
          const Vec high = exp2_nonpositive<Products>(x[j][c + 1] * factor - subtract);
          sum += low;
          sum += high;
          store_weights(weights(row, j) + c * kLanes, low, high);
        }
      total[row] = sum;
    }
  }

  // [kTileRows, kStepKeys] of values, not of units.
  typename Products::Value* weights(int row, int j) const {
    return reinterpret_cast<typename Products::Value*>(scratch_.weights) + row * kStepKeys + j * kPanelTokens;
  }

  Vec rescale(int64_t slot, int row, float exponent, Vec total) const {
    const int64_t width = Sizes(p_.value_width).row_values();
    const Vec factor = exp2_nonpositive<Products>(exponent - Vec{});
    float* sum = sums(slot) + row * width;
    for (int64_t c = 0; c < width; c += kLanes) store(sum + c, load(sum + c) * factor);
    return total * factor;
  }

  void add_values(const SeenPanel* panels, int count, int rows, int64_t slot) {
    const Sizes width(p_.value_width);
    for (int j = 0; j < count;) {
      // Panels that lie behind each other are one matrix.
      int last = j;
      while (last + 1 < count && panels[last].count == kPanelTokens && panels[last + 1].panel == panels[last].panel + 1)
        ++last;
      const int64_t keys = (last - j) * kPanelTokens + panels[last].count;
      multiply<Products>(rows, p_.value_width, (keys + Products::kPack - 1) / Products::kPack,
                         {scratch_.weights + j * kPanelTokens / Products::kPack, kStepKeys / Products::kPack, 1},
                         {scratch_.values + panels[j].panel * width.strip(), value_strip_stride()}, sums(slot),
                         width.row_values(), scratch_.started[slot]);
      scratch_.started[slot] = true;
      j = last + 1;
    }
  }

  void finish(int64_t head, const AttentionTile& tile, int64_t slot) {
    const int64_t width = p_.value_width, stride = Sizes(width).row_values();
    const bool started = scratch_.started[slot];
    scratch_.started[slot] = false;
    float total[kTileRows + kLanes] = {}, whole[kTileRows + kLanes], fraction[kTileRows + kLanes];
    for (int row = 0; started && row < tile.count; ++row)
      total[row] = add_lanes(scratch_.total[slot * kTileRows + row]);
    for (int row = 0; row < tile.count; row += kLanes) {
      Vec of_exponent, of_mantissa;
      split_log2(load(total + row), of_exponent, of_mantissa);
      store(whole + row, of_exponent);
      store(fraction + row, of_mantissa);
    }
    for (int row = 0; row < tile.count; ++row) {
      const int64_t token = p_.query_tokens.token[tile.first + row];
      In* out = static_cast<In*>(call_.out) + (token * p_.query_heads + head) * width;
      float& lse2 = call_.lse2[head * p_.queries + token];
      if (total[row] == 0) {
        std::memset(out, 0, static_cast<size_t>(width) * sizeof(In));
        lse2 = __builtin_inff();
        continue;
      }
      // The sum is rounded once; NaN passes through.
      const double log2_total = static_cast<double>(whole[row]) + fraction[row] + 0 * total[row];
      lse2 = static_cast<float>(scratch_.base[slot * kTileRows + row] + log2_total);
      const Vec factor = 1.f / total[row] - Vec{};
      const float* sum = sums(slot) + row * stride;
      int64_t c = 0;
      for (; c + kLanes <= width; c += kLanes) store(out + c, load(sum + c) * factor);
      if (c < width) store_some<float>(out + c, load(sum + c) * factor, static_cast<int>(width - c));
    }
  }

  // Rows to ask for beside each panel: a tile announces 48 of q and of out, and a share of the next unit's keys.
  static constexpr int64_t kAskedRows = 96;

  const AttentionForward& call_;
  const AttentionProblem& p_;
  const AttentionUnit &unit_, &next_;
  ForwardScratch<Products> scratch_;
  RowsAhead<In>& ahead_;
};

}  // namespace lisa::LISA_CAPABILITY
