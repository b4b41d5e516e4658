#include "attention_schedule.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lisa {
namespace {

// Pieces for each thread of what must be cut: the last ones to finish then lie close together.
constexpr double kPieces = 4;
// Tiles, times heads of a group, of a forward unit that meets several blocks of keys: their sums stay in an L2 cache.
constexpr int64_t kMostWaiting = 32;
// Packing a panel of keys, as rows of queries that see it.
constexpr double kPackingRows = 16;
// Work below which a second thread does not pay, in multiply-adds.
constexpr double kWorthSharing = 1 << 20;
// Products of gradients of queries, of keys and of both at once: the first two compute scores twice.
constexpr double kQueryShare = 3. / 5, kKeyShare = 4. / 5;

}  // namespace

AttentionSchedule::AttentionSchedule(const AttentionTokenSet& queries, const AttentionTokenSet& keys,
                                     AttentionProblem& problem, bool backward, int threads)
    : queries_(queries), keys_(keys), p_(problem) {
  p_.query_tokens = queries.view(), p_.key_tokens = keys.view();
  join_samples();
  measure_tiles();
  const int64_t heads = p_.key_heads;
  for (size_t s = 0; s < samples_.size(); ++s)
    for (int64_t head = 0; head < heads; ++head) {
      const AttentionSample& sample = samples_[s];
      const AttentionUnit unit{static_cast<int64_t>(s),
                               head,
                               sample.first_query_tile,
                               sample.end_query_tile,
                               sample.first_key_tile,
                               sample.end_key_tile,
                               backward,
                               backward};
      costed_.push_back({unit, unit_cost(unit)});
    }
  const auto most_first = [](const Costed& a, const Costed& b) { return a.cost > b.cost; };
  std::stable_sort(costed_.begin(), costed_.end(), most_first);
  backward ? cut_backward(threads) : cut_forward(threads);
  std::stable_sort(costed_.begin(), costed_.end(), most_first);
  for (const Costed& costed : costed_) units_.push_back(costed.unit);
  p_.samples = samples_.data(), p_.units = units_.data(), p_.unit_count = static_cast<int64_t>(units_.size());
  count_waiting_tiles(backward);
}

// Samples that either side knows; a side that lacks one has an empty range.
void AttentionSchedule::join_samples() {
  size_t query_group = 0, query_tile = 0, key_group = 0, key_tile = 0;
  while (query_group < queries_.groups.size() || key_group < keys_.groups.size()) {
    const int64_t none = int64_t{1} << 32;
    const int64_t sample = std::min(query_group < queries_.groups.size() ? queries_.groups[query_group].sample : none,
                                    key_group < keys_.groups.size() ? keys_.groups[key_group].sample : none);
    const auto skip = [sample](const AttentionTokenSet& set, size_t& group, size_t& tile) {
      while (group < set.groups.size() && set.groups[group].sample == sample) ++group;
      while (tile < set.tiles.size() && set.tiles[tile].group < static_cast<int64_t>(group)) ++tile;
    };
    AttentionSample joined{};
    joined.first_query_tile = static_cast<int64_t>(query_tile);
    joined.first_key_group = static_cast<int64_t>(key_group), joined.first_key_tile = static_cast<int64_t>(key_tile);
    skip(queries_, query_group, query_tile);
    skip(keys_, key_group, key_tile);
    joined.end_query_tile = static_cast<int64_t>(query_tile);
    joined.end_key_group = static_cast<int64_t>(key_group), joined.end_key_tile = static_cast<int64_t>(key_tile);
    samples_.push_back(joined);
  }
}

void AttentionSchedule::measure_tiles() {
  types_ = 1 + *std::max_element(p_.head_type, p_.head_type + p_.query_heads);
  const int64_t tiles = static_cast<int64_t>(queries_.tiles.size());
  tile_cost_.resize(types_ * tiles);
  const double width = static_cast<double>(p_.width + p_.value_width);
  for (const AttentionSample& sample : samples_)
    for (int64_t type = 0; type < types_; ++type)
      for (int64_t t = sample.first_query_tile; t < sample.end_query_tile; ++t) {
        const AttentionTile& tile = queries_.tiles[t];
        tile_cost_[type * tiles + t] = keys_seen(type, tile, sample) * tile.count * width;
      }
}

// Keys that the row in the middle of a tile sees.
double AttentionSchedule::keys_seen(int64_t type, const AttentionTile& tile, const AttentionSample& sample) const {
  const int kind = queries_.groups[tile.group].kind;
  double seen = 0;
  for (int64_t g = sample.first_key_group; g < sample.end_key_group; ++g) {
    const AttentionGroup& group = keys_.groups[g];
    switch (visibility_of(p_, type, kind, group.kind)) {
      case Visibility::kNone: break;
      case Visibility::kFull: seen += static_cast<double>(group.count); break;
      case Visibility::kCausal: {
        const auto begin = keys_.position.begin() + group.first;
        const int32_t own = queries_.position[tile.first + tile.count / 2];
        seen += static_cast<double>(std::upper_bound(begin, begin + group.count, own) - begin);
      }
    }
  }
  return seen;
}

double AttentionSchedule::unit_cost(const AttentionUnit& unit) const {
  const int64_t tiles = static_cast<int64_t>(queries_.tiles.size()), group = p_.query_heads / p_.key_heads;
  double cost = 0;
  for (int64_t head = unit.key_head * group; head < (unit.key_head + 1) * group; ++head) {
    const double* costs = tile_cost_.data() + p_.head_type[head] * tiles;
    cost += std::accumulate(costs + unit.first_query_tile, costs + unit.end_query_tile, 0.);
  }
  const double panels = static_cast<double>(unit.end_key_tile - unit.first_key_tile);
  return cost + panels * kPanelTokens * kPackingRows * static_cast<double>(p_.width + p_.value_width);
}

std::vector<AttentionSchedule::Costed> AttentionSchedule::cut_by_queries(const Costed& whole, int64_t pieces,
                                                                         double share) const {
  const int64_t first = whole.unit.first_query_tile, tiles = whole.unit.end_query_tile - first;
  pieces = std::clamp<int64_t>(pieces, 1, std::max<int64_t>(tiles, 1));
  std::vector<Costed> cut;
  for (int64_t i = 0; i < pieces; ++i) {
    Costed piece = whole;
    piece.unit.first_query_tile = first + tiles * i / pieces,
    piece.unit.end_query_tile = first + tiles * (i + 1) / pieces;
    piece.cost = share * unit_cost(piece.unit);
    cut.push_back(piece);
  }
  return cut;
}

std::vector<AttentionSchedule::Costed> AttentionSchedule::cut_by_keys(const Costed& whole, int64_t pieces,
                                                                      double share) const {
  const int64_t first = whole.unit.first_key_tile, tiles = whole.unit.end_key_tile - first;
  pieces = std::clamp<int64_t>(pieces, 1, std::max<int64_t>(tiles, 1));
  std::vector<Costed> cut;
  for (int64_t i = 0; i < pieces; ++i) {
    Costed piece = whole;
    piece.unit.first_key_tile = first + tiles * i / pieces, piece.unit.end_key_tile = first + tiles * (i + 1) / pieces;
    piece.cost = share * whole.cost / static_cast<double>(pieces);
    cut.push_back(piece);
  }
  return cut;
}

void AttentionSchedule::cut_forward(int threads) {
  double total = 0;
  for (const Costed& whole : costed_) total += whole.cost;
  const double most = total < kWorthSharing || threads == 1 ? total : total / (kPieces * threads);
  const int64_t group = p_.query_heads / p_.key_heads, block = forward_block_panels(p_);
  std::vector<Costed> cut;
  for (const Costed& whole : costed_) {
    const AttentionUnit& unit = whole.unit;
    int64_t pieces = whole.cost > most ? static_cast<int64_t>(std::ceil(whole.cost / most)) : 1;
    if (unit.end_key_tile - unit.first_key_tile > block) {
      const int64_t tiles = std::max<int64_t>(1, kMostWaiting / group);
      pieces = std::max(pieces, (unit.end_query_tile - unit.first_query_tile + tiles - 1) / tiles);
    }
    const std::vector<Costed> parts = cut_by_queries(whole, pieces, 1);
    cut.insert(cut.end(), parts.begin(), parts.end());
  }
  costed_ = std::move(cut);
}

// A unit that is cut computes 7 products instead of 5, so as few as possible are: those with most work, until threads
// that share the rest finish soonest.
void AttentionSchedule::cut_backward(int threads) {
  double total = 0;
  for (const Costed& whole : costed_) total += whole.cost;
  const size_t count = costed_.size();
  if (threads == 1 || total < kWorthSharing || count >= static_cast<size_t>(kPieces * threads)) {
    const double most = total / threads;
    if (threads == 1 || total < kWorthSharing || count == 0 || costed_[0].cost <= most) return;
  }
  const auto finish = [&](size_t cut) {
    std::vector<double> busy(threads, 0.);
    double sum = 0;
    for (size_t i = 0; i < cut; ++i) sum += (kQueryShare + kKeyShare) * costed_[i].cost;
    for (size_t i = cut; i < count; ++i) {
      sum += costed_[i].cost;
      *std::min_element(busy.begin(), busy.end()) += costed_[i].cost;
    }
    return std::max(*std::max_element(busy.begin(), busy.end()), sum / threads);
  };
  size_t best = 0;
  double soonest = finish(0);
  for (size_t cut = 1; cut <= count && cut <= static_cast<size_t>(kPieces * threads); ++cut)
    if (const double end = finish(cut); end < 0.99 * soonest) best = cut, soonest = end;
  std::vector<Costed> cut(costed_.begin() + static_cast<int64_t>(best), costed_.end());
  for (size_t i = 0; i < best; ++i) {
    const Costed& whole = costed_[i];
    const int64_t pieces = static_cast<int64_t>(std::ceil(whole.cost * kPieces * threads / total));
    Costed queries = whole, keys = whole;
    queries.unit.grad_keys = false, keys.unit.grad_queries = false;
    for (const auto& parts : {cut_by_queries(queries, pieces, kQueryShare), cut_by_keys(keys, pieces, kKeyShare)})
      cut.insert(cut.end(), parts.begin(), parts.end());
  }
  costed_ = std::move(cut);
}

void AttentionSchedule::count_waiting_tiles(bool backward) {
  const int64_t block = backward ? backward_block_panels(p_) : forward_block_panels(p_);
  p_.waiting_tiles = 1;
  for (const AttentionUnit& unit : units_)
    if (unit.end_key_tile - unit.first_key_tile > block && (!backward || unit.grad_queries))
      p_.waiting_tiles =
          std::max(p_.waiting_tiles, (unit.end_query_tile - unit.first_query_tile) * p_.query_heads / p_.key_heads);
}

}  // namespace lisa
