// From posteriors to occupancies: each frame is divided by its own sum, which removes the drift of the recursion.
#pragma once
#include "ctc_plans.cuh"
#include "ctc_reduce.cuh"
#include "ctc_target.cuh"

namespace lisa::ctc {

constexpr int kOccupancyThreads = 128;

// A warp a frame; also of those that have no gradient, whose occupancies are 0.
template <typename Real, bool kStar>
__global__ void __launch_bounds__(kOccupancyThreads, 4) ctc_occupancy_kernel(Forward call) {
  const Problem& p = call.problem;
  const int64_t index = (int64_t{blockIdx.x} * kOccupancyThreads + threadIdx.x) / kWarp;
  if (index >= p.frames * p.batch) return;
  const int64_t n = index / p.frames, t = index % p.frames;
  const int lane = threadIdx.x % kWarp;
  const Utterance u = utterance_of(call, n);
  const int slots = u.labels + 1;
  Real* posterior = static_cast<Real*>(call.posteriors) + row_of(p, u.target, u.labels, t);
  Real* out = static_cast<Real*>(p.occupancy);
  out += p.by_class ? (n * p.frames + t) * p.classes : row_of(p, u.target, u.labels, t);
  const int width = p.by_class ? static_cast<int>(p.classes) : slots;
  const bool is_empty = !call.is_feasible[n] || t >= u.frames;

  if (!p.by_class) {
    // Room that no label of this utterance takes, and behind the last utterance what is left.
    const int64_t end = n + 1 < p.batch ? u.target.start + u.target.room : p.target_count;
    const int64_t spare = end - u.target.start - u.labels;
    Real* unused = static_cast<Real*>(p.occupancy) + row_of(p, u.target, u.labels, p.frames) + t * spare;
    for (int64_t i = lane; i < spare; i += kWarp) unused[i] = Real(0);
  }
  if (is_empty || p.by_class)
    for (int i = lane; i < width; i += kWarp) out[i] = Real(0);
  if (is_empty) return;

  const Real* parts = static_cast<const Real*>(call.blank_parts) + (n * p.frames + t) * call.parts;
  Real in_blanks = Real(0);
  // In fp64, as their quotient: a posterior of nearly 1 meets a softmax of nearly 1.
  double in_labels = 0;
  [[maybe_unused]] double in_stars = 0;
  for (int i = lane; i < parts_of<Real>(call.block_above, u.labels); i += kWarp) in_blanks += parts[i];
  for (int slot = 1 + lane; slot < slots; slot += kWarp) {
    in_labels += posterior[slot];
    if constexpr (kStar)
      if (is_star(p, label_at(p, u.target.start + slot - 1))) in_stars += posterior[slot];
  }
  in_blanks = reduce_warp(in_blanks, Sum());
  const double sum = static_cast<double>(in_blanks) + reduce_warp(in_labels, Sum());
  const double inverse = sum > 0 ? 1 / sum : 1;
  for (int slot = lane; slot < slots; slot += kWarp)
    posterior[slot] = static_cast<Real>(static_cast<double>(slot ? posterior[slot] : in_blanks) * inverse);
  if constexpr (kStar) {
    const Real share = static_cast<Real>(reduce_warp(in_stars, Sum()) * inverse);
    Real& log_share = static_cast<Real*>(p.star_rows)[(p.frames + t) * p.batch + n];
    if (lane == 0) log_share = share > Real(0) ? log_of(share) - log_share : -infinity<Real>();
  }
  if (!p.by_class) return;

  __syncwarp();
  const Slot* sorted = static_cast<const Slot*>(p.sorted_slots) + u.target.position;
  for (int i = lane; i < slots; i += kWarp) {
    Real share;
    if (sum_of_class(p.classes, sorted, slots, i, posterior, share)) out[sorted[i].class_number] = share;
  }
}

}  // namespace lisa::ctc
