// Backward of one unit: scores and weights once more, then up to five products for each pair of panels.
#pragma once
#include "attention_tiles.h"

namespace lisa::LISA_CAPABILITY {

template <typename Products>
struct BackwardScratch {
  using Unit = typename Products::Unit;
  // Of the block's keys: transposed K and V, K in strips.
  Unit *keys_across, *values_across, *keys;
  float *grad_keys, *grad_values;
  // Of one panel of queries: rows and strips of q and of the gradient of out.
  Unit *q_rows, *q, *grad_rows, *grad;
  float *lse2, *delta;
  float* grad_queries;
  // [kPanelTokens, kPanelTokens] of one pair of panels.
  float *weights, *grad_scores;
  Unit *grad_score_rows, *staged;
  SeenPanels seen;
  int64_t bytes;

  BackwardScratch(const AttentionProblem& p, char* memory) : BackwardScratch(p, Arena{memory}) {}

 private:
  using Sizes = Width<Products>;
  BackwardScratch(const AttentionProblem& p, Arena arena)
      : keys_across(arena.take<Unit>(block(p) * Sizes(p.width).transposed())),
        values_across(arena.take<Unit>(block(p) * Sizes(p.value_width).transposed())),
        keys(arena.take<Unit>(block(p) * Sizes(p.width).strips())),
        grad_keys(arena.take<float>(block(p) * Sizes(p.width).sums())),
        grad_values(arena.take<float>(block(p) * Sizes(p.value_width).sums())),
        q_rows(arena.take<Unit>(Sizes(p.width).staged())),
        q(arena.take<Unit>(Sizes(p.width).strips())),
        grad_rows(arena.take<Unit>(Sizes(p.value_width).staged())),
        grad(arena.take<Unit>(Sizes(p.value_width).strips())),
        lse2(arena.take<float>(kPanelTokens)),
        delta(arena.take<float>(kPanelTokens)),
        grad_queries(arena.take<float>(p.waiting_tiles * Sizes(p.width).sums())),
        weights(arena.take<float>(kPanelTokens * kPanelTokens)),
        grad_scores(arena.take<float>(kPanelTokens * kPanelTokens)),
        grad_score_rows(Products::kPack == 1 ? reinterpret_cast<Unit*>(grad_scores)
                                             : arena.take<Unit>(kPanelTokens * kPanelTokens / Products::kPack)),
        staged(arena.take<Unit>(larger(Sizes(p.width).staged(), Sizes(p.value_width).staged()))),
        seen(arena, block(p)),
        bytes(arena.used) {}
  static int64_t block(const AttentionProblem& p) { return backward_block_panels(p); }
};

template <typename Products, typename In>
class BackwardUnit {
 public:
  BackwardUnit(const AttentionBackward& call, const AttentionUnit& unit, const AttentionUnit& next,
               RowsAhead<In>& ahead, char* memory)
      : call_(call),
        p_(call.problem),
        unit_(unit),
        next_(next),
        scratch_(call.problem, memory),
        ahead_(ahead),
        want_q_(unit.grad_queries && call.grad_q.data),
        want_k_(unit.grad_keys && call.grad_k.data),
        want_v_(unit.grad_keys && call.grad_v.data) {}

  void run() {
    if (!want_q_ && !want_k_ && !want_v_) return;
    const int64_t group = p_.query_heads / p_.key_heads, tiles = unit_.end_query_tile - unit_.first_query_tile;
    const int64_t block = backward_block_panels(p_);
    const bool one_block = unit_.end_key_tile - unit_.first_key_tile <= block;
    if (want_q_) clear(grad_queries(0), (one_block ? 1 : group * tiles) * width().sums());
    each_block(unit_, block, [&](int64_t first, int64_t end) {
      pack_keys(first, end);
      for (int64_t g = 0; g < group; ++g)
        for (int64_t t = 0; t < tiles; ++t) {
          const int64_t head = unit_.key_head * group + g, slot = one_block ? 0 : g * tiles + t;
          look_ahead(head, t);
          differentiate(head, tile(t), slot, first, end);
          if (want_q_ && end == unit_.end_key_tile) finish_queries(head, tile(t), slot);
        }
      finish_keys(first, end);
    });
    if (want_q_ && unit_.first_key_tile == unit_.end_key_tile)
      for (int64_t g = 0; g < group; ++g)
        for (int64_t t = 0; t < tiles; ++t) finish_queries(unit_.key_head * group + g, tile(t), 0);
  }

 private:
  using Unit = typename Products::Unit;
  using Sizes = Width<Products>;

  const AttentionTile& tile(int64_t t) const { return p_.query_tokens.tiles[unit_.first_query_tile + t]; }
  Sizes width() const { return Sizes(p_.width); }
  Sizes value_width() const { return Sizes(p_.value_width); }
  float* grad_queries(int64_t slot) const { return scratch_.grad_queries + slot * width().sums(); }
  static void clear(float* sums, int64_t count) { std::memset(sums, 0, static_cast<size_t>(count) * sizeof(float)); }

  void pack_keys(int64_t first, int64_t end) {
    if (want_k_) clear(scratch_.grad_keys, (end - first) * width().sums());
    if (want_v_) clear(scratch_.grad_values, (end - first) * value_width().sums());
    each_seen_panel(p_, unit_, first, end, [&](int64_t i) {
      const AttentionTile& panel = p_.key_tokens.tiles[i];
      const int64_t* token = p_.key_tokens.token + panel.first;
      const int64_t place = i - first;
      stage<Products, In>(p_.k, unit_.key_head, token, panel.count, width(), scratch_.staged);
      transpose_panel(scratch_.staged, panel.count, width(), scratch_.keys_across + place * width().transposed());
      if (want_q_)
        pack_strips(scratch_.staged, panel.count, width(), width().strip(), scratch_.keys + place * width().strips());
      stage<Products, In>(p_.v, unit_.key_head, token, panel.count, value_width(), scratch_.staged);
      transpose_panel(scratch_.staged, panel.count, value_width(),
                      scratch_.values_across + place * value_width().transposed());
    });
  }

  // The rows that this tile writes and the next one reads.
  void look_ahead(int64_t head, int64_t t) {
    const int64_t* token = p_.query_tokens.token;
    if (unit_.first_query_tile + t + 1 < unit_.end_query_tile) {
      const AttentionTile& next = tile(t + 1);
      ahead_.add(p_.q, head, token + next.first, next.count, p_.width, false);
      ahead_.add(output(call_.grad_out), head, token + next.first, next.count, p_.value_width, false);
      ahead_.add(output(call_.out), head, token + next.first, next.count, p_.value_width, false);
    }
    if (want_q_) ahead_.add(call_.grad_q, head, token + tile(t).first, tile(t).count, p_.width, true);
    look_at_keys_of_next(p_, unit_, next_, t, ahead_);
  }

  void pack_queries(int64_t head, const AttentionTile& tile) {
    const int64_t* token = p_.query_tokens.token + tile.first;
    const AttentionMatrix grad_out = output(call_.grad_out);
    stage<Products, In>(p_.q, head, token, tile.count, width(), scratch_.q_rows);
    stage<Products, In>(grad_out, head, token, tile.count, value_width(), scratch_.grad_rows);
    if (want_k_) pack_strips(scratch_.q_rows, tile.count, width(), width().strip(), scratch_.q);
    if (want_v_) pack_strips(scratch_.grad_rows, tile.count, value_width(), value_width().strip(), scratch_.grad);
    find_deltas(head, token, tile.count);
  }

  void find_deltas(int64_t head, const int64_t* token, int count) {
    const In* out = static_cast<const In*>(call_.out);
    const In* grad = static_cast<const In*>(call_.grad_out);
    // Sums of lanes in a loop of their own: the machine would wait for one row of out before it asks for the next.
    Vec partial[kPanelTokens];
    for (int row = 0; row < count; ++row) {
      const int64_t start = (token[row] * p_.query_heads + head) * p_.value_width;
      partial[row] = multiply_lanes(out + start, grad + start, p_.value_width);
    }
    for (int row = 0; row < count; ++row) {
      const int64_t place = head * p_.queries + token[row];
      scratch_.lse2[row] = call_.lse2[place];
      scratch_.delta[row] = add_lanes(partial[row]) - kLog2E * call_.grad_lse2[place];
    }
  }

  AttentionMatrix output(const void* data) const { return {data, p_.query_heads * p_.value_width, p_.value_width}; }

  static Vec multiply_lanes(const In* a, const In* b, int64_t count) {
    Vec sum = Vec{};
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) sum += load(a + i) * load(b + i);
    const int left = static_cast<int>(count - i);
    if (left > 0) sum += load_some<float>(a + i, left, 0.f) * load_some<float>(b + i, left, 0.f);
    return sum;
  }

  void differentiate(int64_t head, const AttentionTile& tile, int64_t slot, int64_t first, int64_t end) {
    SeenPanels& seen = scratch_.seen;
    seen.find(p_, head, tile, first, end);
    if (seen.count == 0) return;
    pack_queries(head, tile);
    const int64_t rows = tile.count, row_units = (rows + Products::kPack - 1) / Products::kPack;
    for (int64_t i = 0; i < seen.count; ++i) {
      const SeenPanel& panel = seen.list[i];
      const int64_t keys = panel.count;
      multiply<Products>(rows, keys, width().units(), {scratch_.q_rows, width().row_units(), 1},
                         {scratch_.keys_across + panel.panel * width().transposed(), 0}, scratch_.weights, kPanelTokens,
                         false);
      ahead_.ask(kAskedRows);
      multiply<Products>(rows, keys, value_width().units(), {scratch_.grad_rows, value_width().row_units(), 1},
                         {scratch_.values_across + panel.panel * value_width().transposed(), 0}, scratch_.grad_scores,
                         kPanelTokens, false);
      ahead_.ask(kAskedRows);
      weigh(panel, tile.count);
      if (want_v_)
        multiply<Products>(keys, p_.value_width, row_units, across(scratch_.weights),
                           {scratch_.grad, value_width().strip()},
                           scratch_.grad_values + panel.panel * value_width().sums(), value_width().row_values(), true);
      ahead_.ask(kAskedRows);
      if (want_k_)
        multiply<Products>(keys, p_.width, row_units, across(scratch_.grad_scores), {scratch_.q, width().strip()},
                           scratch_.grad_keys + panel.panel * width().sums(), width().row_values(), true);
      ahead_.ask(kAskedRows);
      if (want_q_)
        multiply<Products>(rows, p_.width, (keys + Products::kPack - 1) / Products::kPack,
                           {scratch_.grad_score_rows, kPanelTokens / Products::kPack, 1},
                           {scratch_.keys + panel.panel * width().strips(), width().strip()}, grad_queries(slot),
                           width().row_values(), true);
    }
  }

  // [queries, keys], or [pairs of queries, keys], as a first matrix of keys by queries.
  static Left<Unit> across(const float* matrix) { return {reinterpret_cast<const Unit*>(matrix), 1, kPanelTokens}; }

  // Scores become weights, gradients of weights become gradients of scores.
  void weigh(const SeenPanel& panel, int rows) {
    // What is computed in the columns behind the last key goes nowhere, unless that key's pair holds one of them.
    const bool whole = !panel.limits && panel.count % Products::kPack == 0;
    whole ? weigh<true>(panel, rows) : weigh<false>(panel, rows);
  }

  // A row's share of weigh: weight and gradient of 16 (8, 4) scores.
  template <bool kWhole>
  struct Row {
    float *weights, *grads;
    Vec lse2, delta;
    float factor;
    int seen;

    Row(const BackwardUnit& unit, const SeenPanel& panel, int row)
        : weights(unit.scratch_.weights + row * kPanelTokens),
          grads(unit.scratch_.grad_scores + row * kPanelTokens),
          lse2(unit.scratch_.lse2[row] - Vec{}),
          delta(unit.scratch_.delta[row] - Vec{}),
          factor(unit.p_.scale * kLog2E),
          seen(kWhole ? panel.count : panel.seen_by(row)) {}

    void cell(int column, Vec& weight, Vec& grad) const {
      weight = exp2_nonpositive<Products>(load(weights + column) * factor - lse2);
      if (!kWhole) weight = keep_lanes(weight, seen - column, 0.f);
      grad = weight * (load(grads + column) - delta);
    }
  };

  template <bool kWhole>
  void weigh(const SeenPanel& panel, int rows) {
    if constexpr (Products::kPack == 1) {
      for (int i = 0; i < rows; ++i) {
        const Row<kWhole> row(*this, panel, i);
        for (int column = 0; column < panel.count; column += kLanes) {
          Vec weight, grad;
          row.cell(column, weight, grad);
          store(row.weights + column, weight);
          store(row.grads + column, grad);
        }
      }
    } else {
      weigh_pairs<kWhole>(panel, rows);
    }
  }

#if defined(__AVX512BF16__)
  // Pairs of queries overwrite the scores; pair i lies where row i was, which has been read by then.
  template <bool kWhole>
  void weigh_pairs(const SeenPanel& panel, int rows) {
    // Vectors may alias anything: members would be read again after each store.
    auto* const by_row = reinterpret_cast<uint16_t*>(scratch_.grad_score_rows);
    float *const weights = scratch_.weights, *const grad_scores = scratch_.grad_scores;
    const int count = panel.count;
    for (int i = 0; i < rows; i += 2) {
      const bool odd = i + 1 < rows;
      const Row<kWhole> first(*this, panel, i), second(*this, panel, odd ? i + 1 : i);
#pragma GCC unroll 4
      for (int column = 0; column < kPanelTokens; column += kLanes) {
        if (column >= count) break;
        Vec weight[2], grad[2];
        first.cell(column, weight[0], grad[0]);
        second.cell(column, weight[1], grad[1]);
        if (!odd) weight[1] = grad[1] = Vec{};
        const __m512i grads = to_bfloat16(grad[0], grad[1]);
        store_vector(by_row + i * kPanelTokens + column, _mm512_castsi512_si256(grads));
        store_vector(by_row + (i + 1) * kPanelTokens + column, _mm512_extracti64x4_epi64(grads, 1));
        const int64_t pair = i / 2 * kPanelTokens + column;
        store_vector(weights + pair, interleave(to_bfloat16(weight[0], weight[1])));
        store_vector(grad_scores + pair, interleave(grads));
      }
    }
  }

  // 16 values of an even row and then of the odd one, as 16 pairs.
  static __m512i interleave(__m512i rows) {
    uint16_t order[32];
    for (int i = 0; i < 32; ++i) order[i] = static_cast<uint16_t>(i / 2 + i % 2 * 16);
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(order), rows);
  }
#endif

  void finish_queries(int64_t head, const AttentionTile& tile, int64_t slot) {
    write(call_.grad_q, head, p_.query_tokens.token + tile.first, tile.count, grad_queries(slot), width(), p_.scale);
    clear(grad_queries(slot), width().sums());
  }

  void finish_keys(int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) {
      const AttentionTile& panel = p_.key_tokens.tiles[i];
      const int64_t* token = p_.key_tokens.token + panel.first;
      if (want_k_)
        write(call_.grad_k, unit_.key_head, token, panel.count, scratch_.grad_keys + (i - first) * width().sums(),
              width(), p_.scale);
      if (want_v_)
        write(call_.grad_v, unit_.key_head, token, panel.count,
              scratch_.grad_values + (i - first) * value_width().sums(), value_width(), 1.f);
    }
  }

  static void write(const AttentionMatrix& m, int64_t head, const int64_t* token, int count, const float* sums,
                    Sizes width, float factor) {
    for (int i = 0; i < count; ++i) {
      In* out = static_cast<In*>(const_cast<void*>(m.data)) + token[i] * m.token_stride + head * m.head_stride;
      const float* sum = sums + i * width.row_values();
      int64_t c = 0;
      for (; c + kLanes <= width.values; c += kLanes) store(out + c, load(sum + c) * factor);
      if (c < width.values) store_some<float>(out + c, load(sum + c) * factor, static_cast<int>(width.values - c));
    }
  }

  // Rows to ask for beside each of the four products of a panel: a tile announces up to 64 of five matrices.
  static constexpr int64_t kAskedRows = 48;

  const AttentionBackward& call_;
  const AttentionProblem& p_;
  const AttentionUnit &unit_, &next_;
  BackwardScratch<Products> scratch_;
  RowsAhead<In>& ahead_;
  const bool want_q_, want_k_, want_v_;
};

}  // namespace lisa::LISA_CAPABILITY
