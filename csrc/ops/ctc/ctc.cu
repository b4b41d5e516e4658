// CTC on NVIDIA GPUs: which kernels a call launches.  The mathematics and the meaning of what is saved stand in
// lisa_kernels/ops/ctc/README.md.  Nothing here waits for the device, and no size depends on values there: calls can be
// captured in a CUDA graph.
#include "../../core/launch.cuh"
#include "ctc_cuda.h"
#include "ctc_gradient.cuh"
#include "ctc_meeting.cuh"
#include "ctc_occupancy.cuh"
#include "ctc_plans.cuh"
#include "ctc_rows.cuh"
#include "ctc_terms.cuh"

namespace lisa::ctc {
namespace {

unsigned blocks(int64_t count, int64_t share) { return static_cast<unsigned>((count + share - 1) / share); }

int64_t real_bytes(const Problem& p) { return p.dtype == Dtype::kFloat64 ? 8 : 4; }

void lay_out_target(Problem& p, bool sorts, Arena& arena) {
  p.target_starts = p.concatenated ? static_cast<int64_t*>(arena.take((p.batch + 1) * 8)) : nullptr;
  p.sorted_slots = sorts ? arena.take((p.target_count + p.batch) * sizeof(Slot)) : nullptr;
}

template <typename Real>
void choose_plan(Forward& call) {
  const Problem& p = call.problem;
  // Of concatenated targets nobody knows on the host which are long: each plan looks for its own.
  call.block_above = p.concatenated || p.most_labels <= kMostOfAWarp<Real> ? kMostOfAWarp<Real> : -1;
  call.parts = parts_of<Real>(call.block_above, p.most_labels);
}

// The length of a segment: as many checkpoints as frames between them.
int64_t root_of(int64_t frames) {
  int64_t root = 1;
  while (root * root < frames) ++root;
  return root;
}

void choose_rows(Forward& call, int64_t state_bytes, int64_t kept_bytes) {
  const int64_t half = (call.problem.frames + 1) / 2;
  call.segment = 0;
  call.rows = 1;
  if (!call.save) return;
  call.rows = half + 1;
  if (half < 4 || call.rows * state_bytes <= kept_bytes) return;
  call.segment = root_of(half);
  call.rows = (half + call.segment - 1) / call.segment + 2 + call.segment;
}

template <typename Real, typename P>
int launch_warp_walk(const Forward& call, int more_than, int at_most, cudaStream_t stream) {
  const auto kernel = ctc_warp_walk_kernel<Real, P::kPairs>;
  if (const int error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, P::kSharedBytes))
    return error;
  const unsigned batch = static_cast<unsigned>(call.problem.batch);
  ctc_warp_walk_kernel<Real, P::kPairs><<<batch, P::kThreads, P::kSharedBytes, stream>>>(call, more_than, at_most);
  return cudaGetLastError();
}

template <typename Real, bool kToMeeting>
int launch_block_walk(const Forward& call, cudaStream_t stream) {
  using P = typename Plans<Real>::Block;
  const auto kernel = ctc_block_walk_kernel<Real, P::kPairs, P::kWarps, kToMeeting>;
  if (const int error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, P::kSharedBytes))
    return error;
  const dim3 grid(static_cast<unsigned>(call.problem.batch), 2);
  ctc_block_walk_kernel<Real, P::kPairs, P::kWarps, kToMeeting>
      <<<grid, P::kThreads, P::kSharedBytes, stream>>>(call, static_cast<int>(call.block_above));
  return cudaGetLastError();
}

// The plans of single warps from kPairs on, until one has room for all targets.
template <typename Real, int kPairs>
int launch_warp_walks(const Forward& call, int more_than, cudaStream_t stream) {
  const int64_t most = call.problem.most_labels;
  constexpr int kRoom = kWarp * kPairs;
  constexpr int kNext = kPairs < Plans<Real>::kMostPairs ? 2 * kPairs : kPairs;
  // Concatenated: each step of the ladder is a launch, so only every other one is taken.
  const bool is_taken =
      call.problem.concatenated ? kPairs == 1 || kPairs == 4 || kPairs == Plans<Real>::kMostPairs : most <= kRoom;
  if (is_taken) {
    if (const int error = launch_warp_walk<Real, Plan<Real, kPairs, 1>>(call, more_than, kRoom, stream)) return error;
    more_than = kRoom;
  }
  if (kNext == kPairs || most <= more_than) return cudaSuccess;
  return launch_warp_walks<Real, kNext>(call, more_than, stream);
}

template <typename Real>
int launch_walks(const Forward& call, cudaStream_t stream) {
  if (call.block_above >= 0)
    if (const int error = launch_warp_walks<Real, 1>(call, -1, stream)) return error;
  if (call.problem.most_labels <= call.block_above) return cudaSuccess;
  if (const int error = launch_block_walk<Real, true>(call, stream)) return error;
  return launch_block_walk<Real, false>(call, stream);
}

int launch_target(const Problem& p, cudaStream_t stream) {
  if (p.concatenated) {
    ctc_place_kernel<<<1, kPlaceThreads, 0, stream>>>(p.target_lengths, p.batch, p.target_count, p.target_starts);
    if (const int error = cudaGetLastError()) return error;
  }
  if (p.sorted_slots == nullptr) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(p.batch), blocks(p.most_labels + 1, kSortThreads));
  ctc_sort_kernel<<<grid, kSortThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

template <typename In, int kThreads>
int launch_emissions(const Forward& call, cudaStream_t stream) {
  const unsigned grid = blocks(call.problem.frames * call.problem.batch, RowThreads<kThreads>::kRows);
  if (call.entropy || call.log_priors || call.problem.has_star)
    ctc_emissions_kernel<In, kThreads, true><<<grid, kRowBlock, 0, stream>>>(call);
  else
    ctc_emissions_kernel<In, kThreads, false><<<grid, kRowBlock, 0, stream>>>(call);
  return cudaGetLastError();
}

template <typename In, int kThreads>
int launch_divergences(const Forward& call, cudaStream_t stream) {
  const unsigned grid = blocks(call.problem.frames * (call.problem.batch / 2), RowThreads<kThreads>::kRows);
  ctc_divergences_kernel<In, kThreads><<<grid, kRowBlock, 0, stream>>>(call);
  return cudaGetLastError();
}

template <typename In>
int launch_terms(const Forward& call, cudaStream_t stream) {
  const Problem& p = call.problem;
  if (call.consistency && p.frames > 0) {
    const int error = p.classes > kMostClassesOfAWarp ? launch_divergences<In, kRowBlock>(call, stream)
                                                      : launch_divergences<In, kWarp>(call, stream);
    if (error) return error;
  }
  if (!call.entropy && !call.consistency) return cudaSuccess;
  ctc_terms_kernel<RealOf<In>><<<static_cast<unsigned>(p.batch), kRowBlock, 0, stream>>>(call);
  return cudaGetLastError();
}

template <typename Real>
int launch_occupancy(const Forward& call, cudaStream_t stream) {
  const unsigned grid = blocks(call.problem.frames * call.problem.batch * kWarp, kOccupancyThreads);
  if (call.problem.has_star)
    ctc_occupancy_kernel<Real, true><<<grid, kOccupancyThreads, 0, stream>>>(call);
  else
    ctc_occupancy_kernel<Real, false><<<grid, kOccupancyThreads, 0, stream>>>(call);
  return cudaGetLastError();
}

template <typename In>
int forward_of(const Forward& call, cudaStream_t stream) {
  using Real = RealOf<In>;
  const Problem& p = call.problem;
  if (const int error = launch_target(p, stream)) return error;
  if (p.frames > 0) {
    const int error = p.classes > kMostClassesOfAWarp ? launch_emissions<In, kRowBlock>(call, stream)
                                                      : launch_emissions<In, kWarp>(call, stream);
    if (error) return error;
  }
  if (const int error = launch_walks<Real>(call, stream)) return error;
  if (call.save && p.frames > 0)
    if (const int error = launch_occupancy<Real>(call, stream)) return error;
  return launch_terms<In>(call, stream);
}

template <typename Out, int kThreads>
int launch_gradient(const Backward& call, cudaStream_t stream) {
  const Problem& p = call.problem;
  const int64_t at_once = call.grad_consistency ? p.batch / 2 : p.batch;
  const unsigned grid = blocks(p.frames * at_once, RowThreads<kThreads>::kRows);
  if (p.star_rows || call.grad_entropy || call.grad_consistency)
    ctc_terms_gradient_kernel<Out, kThreads><<<grid, kRowBlock, 0, stream>>>(call);
  else
    ctc_gradient_kernel<Out, kThreads><<<grid, kRowBlock, 0, stream>>>(call);
  return cudaGetLastError();
}

template <typename Out>
int backward_of(const Backward& call, cudaStream_t stream) {
  const Problem& p = call.problem;
  if (const int error = launch_target(p, stream)) return error;
  return p.classes > kMostClassesOfAWarp ? launch_gradient<Out, kRowBlock>(call, stream)
                                         : launch_gradient<Out, kWarp>(call, stream);
}

}  // namespace

int64_t lay_out(Forward& call, char* scratch, int64_t kept_bytes) {
  Problem& p = call.problem;
  const int64_t real = real_bytes(p), positions = p.target_count + p.batch;
  if (p.dtype == Dtype::kFloat64)
    choose_plan<double>(call);
  else
    choose_plan<float>(call);
  // Blanks and labels, mantissa and exponent, of both directions.
  const int64_t state_bytes = 2 * (p.target_count + positions) * 2 * real;
  choose_rows(call, state_bytes, kept_bytes);

  Arena arena{scratch};
  lay_out_target(p, p.by_class && call.save, arena);
  call.emissions = arena.take(p.frames * positions * 2 * real);
  call.states = arena.take(call.rows * state_bytes);
  call.blank_parts = call.save ? arena.take(p.frames * p.batch * call.parts * real) : nullptr;
  call.posteriors = call.save ? (p.by_class ? arena.take(p.frames * positions * real) : p.occupancy) : nullptr;
  call.is_feasible = static_cast<int32_t*>(arena.take(p.batch * 4));
  call.row_divergence = call.consistency ? arena.take(p.frames * p.batch * real) : nullptr;
  // Long targets pass what goes from strip to strip, two rows for each direction.
  const bool has_strips =
      call.parts > (p.dtype == Dtype::kFloat64 ? Plans<double>::Block::kWarps : Plans<float>::Block::kWarps);
  call.strip_borders = has_strips ? arena.take(4 * p.frames * p.batch * 2 * real) : nullptr;
  return arena.used;
}

int64_t lay_out(Backward& call, char* scratch) {
  Arena arena{scratch};
  lay_out_target(call.problem, !call.problem.by_class, arena);
  return arena.used;
}

int forward(const Forward& call, void* stream) {
  if (call.problem.batch == 0) return cudaSuccess;
  const auto on = static_cast<cudaStream_t>(stream);
  return for_element(call.problem.dtype, [&](auto element) { return forward_of<decltype(element)>(call, on); });
}

int backward(const Backward& call, void* stream) {
  if (call.problem.batch == 0 || call.problem.frames == 0) return cudaSuccess;
  const auto on = static_cast<cudaStream_t>(stream);
  return for_element(call.problem.dtype, [&](auto element) { return backward_of<decltype(element)>(call, on); });
}

}  // namespace lisa::ctc
