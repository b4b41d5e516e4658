// One read of the logits: each row's log-sum, and the search scores of blank and labels.
#pragma once
#include "../ctc/ctc_rows.cuh"
#include "ctc_align_lattice.cuh"

namespace lisa::ctc {

// log(1 - p(blank)) + log_sum - penalty, from the other classes on their own: 1 - p(blank) would cancel.  The row was
// just read and comes from the cache.
template <int kThreads, typename In>
__device__ inline RealOf<In> star_score(const Align& call, const In* row, RealOf<In> row_max) {
  using Real = RealOf<In>;
  const Problem& p = call.problem;
  const RowSums<Real> rest =
      sums_of_row<kThreads, true, false>(row, static_cast<int>(p.classes), static_cast<int>(p.blank));
  if (rest.max == -infinity<Real>()) return rest.max;
  return ((rest.max - row_max) + log_of_sum(rest.sum, Real(0))) - static_cast<Real>(call.star_penalty);
}

template <typename In, int kThreads>
__global__ void __launch_bounds__(kRowBlock, sizeof(In) == 8 ? 1 : 2) ctc_align_rows_kernel(Align call) {
  using Real = RealOf<In>;
  using Row = RowThreads<kThreads>;
  const Problem& p = call.problem;
  const int64_t index = int64_t{blockIdx.x} * Row::kRows + threadIdx.x / kThreads;
  if (index >= p.frames * p.batch) return;
  const RowIndex at = row_index(p, index);
  const Aligned u = aligned_of(call, at.n);
  if (at.t >= u.frames) return;
  const In* row = static_cast<const In*>(p.logits) + at.t * p.stride_t + at.n * p.stride_n;
  const RowStatistics<Real> statistics = row_statistics<kThreads>(row, static_cast<int>(p.classes));
  if (Row::lane() == 0) static_cast<Real*>(p.log_sum)[at.n * p.frames + at.t] = statistics.log_sum;
  const Real of_star = p.has_star ? star_score<kThreads>(call, row, statistics.max) : Real(0);
  if (!u.has_room()) return;

  const Window window = window_at(call, u, at.t);
  if (call.band > 0 && Row::lane() == 0) static_cast<Window*>(call.windows)[at.n * p.frames + at.t] = window;
  const Emissions<Real> emissions(call, u);
  Real* out = emissions.row(at.t);
  const int origin = emissions.origin(window), end = origin + smaller(window.last + 1, u.labels);
  const Real* priors = static_cast<const Real*>(call.log_priors);
  for (int slot = Row::lane(); slot < end; slot += kThreads) {
    const int64_t label = slot == 0 ? p.blank : label_at(p, u.target.start + slot - origin);
    // The search finds labels that are no class, and answers with NaN.
    const int64_t c = is_class(p, label) ? label : p.blank;
    const Real below_max = to_real(row[c]) - statistics.max;
    out[slot] = slot > 0 && is_star(p, label) ? of_star : (priors ? below_max - priors[c] : below_max);
  }
}

}  // namespace lisa::ctc
