#include "attention_tokens.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace lisa {
namespace {
constexpr int kClasses = 32;
}

AttentionTokenSet::AttentionTokenSet(const AttentionTable& table, bool causal, int rows, int step) {
  const int32_t* sample = table.sample();
  std::vector<int64_t> slots;
  slots.reserve(static_cast<size_t>(table.count));
  bool in_order = true;
  for (int64_t slot = 0; slot < table.count; ++slot) {
    if (sample[slot] < 0 || table.kind()[slot] >= kClasses) {
      padding.push_back(table.token(slot));
      continue;
    }
    in_order &= slots.empty() || sample[slots.back()] <= sample[slot];
    slots.push_back(slot);
  }
  if (!in_order)
    std::stable_sort(slots.begin(), slots.end(), [&](int64_t a, int64_t b) { return sample[a] < sample[b]; });
  token.reserve(slots.size()), position.reserve(slots.size());
  for (size_t first = 0, end; first < slots.size(); first = end) {
    end = first + 1;
    while (end < slots.size() && sample[slots[end]] == sample[slots[first]]) ++end;
    add_sample(table, slots.data() + first, static_cast<int64_t>(end - first));
  }
  if (causal)
    for (const AttentionGroup& group : groups) sort_by_position(group);
  cut(rows, step);
}

void AttentionTokenSet::add_sample(const AttentionTable& table, const int64_t* slots, int64_t count) {
  std::array<int64_t, kClasses> next{};
  for (int64_t i = 0; i < count; ++i) ++next[table.kind()[slots[i]]];
  int64_t place = static_cast<int64_t>(token.size());
  for (int kind = 0; kind < kClasses; ++kind) {
    const int64_t tokens = next[kind];
    if (tokens) groups.push_back({place, tokens, table.sample()[slots[0]], kind});
    next[kind] = place;
    place += tokens;
  }
  token.resize(place), position.resize(place);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = next[table.kind()[slots[i]]]++;
    token[at] = table.token(slots[i]);
    position[at] = table.position()[slots[i]];
  }
}

// The plan refuses positions that decrease, where it can see them.
void AttentionTokenSet::sort_by_position(const AttentionGroup& group) {
  const auto begin = position.begin() + group.first, end = begin + group.count;
  if (std::is_sorted(begin, end)) return;
  std::vector<int64_t> order(group.count);
  std::iota(order.begin(), order.end(), group.first);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return position[a] < position[b]; });
  std::vector<int64_t> tokens(group.count);
  std::vector<int32_t> positions(group.count);
  for (int64_t i = 0; i < group.count; ++i) tokens[i] = token[order[i]], positions[i] = position[order[i]];
  std::copy(tokens.begin(), tokens.end(), token.begin() + group.first);
  std::copy(positions.begin(), positions.end(), begin);
}

void AttentionTokenSet::cut(int rows, int step) {
  for (size_t g = 0; g < groups.size(); ++g) {
    const AttentionGroup& group = groups[g];
    const int64_t pieces = (group.count + rows - 1) / rows;
    const int64_t even = (group.count + pieces - 1) / pieces, size = (even + step - 1) / step * step;
    for (int64_t i = 0; i < group.count; i += size)
      tiles.push_back(
          {group.first + i, static_cast<int32_t>(std::min(size, group.count - i)), static_cast<int32_t>(g)});
  }
}

}  // namespace lisa
