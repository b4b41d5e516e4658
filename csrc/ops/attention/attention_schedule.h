// Who does what: units of work of a batch, with most work first.
#pragma once
#include <vector>

#include "attention_tokens.h"

namespace lisa {

class AttentionSchedule {
 public:
  // Completes a problem whose other fields are set.  The problem points into the token sets and into this object.
  AttentionSchedule(const AttentionTokenSet& queries, const AttentionTokenSet& keys, AttentionProblem& problem,
                    bool backward, int threads);

 private:
  struct Costed {
    AttentionUnit unit;
    double cost;
  };

  void join_samples();
  void measure_tiles();
  double keys_seen(int64_t type, const AttentionTile& tile, const AttentionSample& sample) const;
  double unit_cost(const AttentionUnit& unit) const;
  void cut_forward(int threads);
  void cut_backward(int threads);
  std::vector<Costed> cut_by_queries(const Costed& whole, int64_t pieces, double share) const;
  std::vector<Costed> cut_by_keys(const Costed& whole, int64_t pieces, double share) const;
  void count_waiting_tiles(bool backward);

  const AttentionTokenSet &queries_, &keys_;
  AttentionProblem& p_;
  int64_t types_ = 0;
  std::vector<AttentionSample> samples_;
  std::vector<double> tile_cost_;  // [types, query tiles]
  std::vector<Costed> costed_;
  std::vector<AttentionUnit> units_;
};

}  // namespace lisa
