// Queries or keys by sample and class, from the plan's table.
#pragma once
#include <cstdint>
#include <vector>

#include "attention.h"

namespace lisa {

// A plan's tokens_q or tokens_k: [rows, slots] by slot; slots from `count` on are padding.
struct AttentionTable {
  const int32_t* data;
  int64_t slots, count;
  bool reordered;  // row 4 holds the tokens

  const int32_t* position() const { return data + slots; }
  const int32_t* sample() const { return data + 2 * slots; }
  const int32_t* kind() const { return data + 3 * slots; }
  int64_t token(int64_t slot) const { return reordered ? data[4 * slots + slot] : slot; }
};

// However finely modalities alternate, the tokens of a class of a sample are neighbours here: panels of them need no
// mask where they see all of each other, and a prefix of each other's positions otherwise.
struct AttentionTokenSet {
  std::vector<int64_t> token;
  std::vector<int32_t> position;
  std::vector<AttentionGroup> groups;  // by sample, then class
  std::vector<AttentionTile> tiles;
  std::vector<int64_t> padding;  // tokens of no group

  // `rows`: most tokens of a tile; `step`: where a group is cut evenly, tiles are rounded up to this.
  AttentionTokenSet(const AttentionTable& table, bool causal, int rows, int step);

  AttentionTokens view() const { return {token.data(), position.data(), groups.data(), tiles.data()}; }

 private:
  void add_sample(const AttentionTable& table, const int64_t* slots, int64_t count);
  void sort_by_position(const AttentionGroup& group);
  void cut(int rows, int step);
};

}  // namespace lisa
