// Forced alignment on NVIDIA GPUs: which kernels a call launches.  The search stands in
// lisa_kernels/ops/ctc_align/README.md.  Nothing here waits for the device, and no size depends on values there: calls
// can be captured in a CUDA graph.
#include "../../core/launch.cuh"
#include "ctc_align_cuda.h"
#include "ctc_align_rows.cuh"
#include "ctc_align_search.cuh"

namespace lisa::ctc {
namespace {

// Most groups of 32 positions that a warp holds in registers: 512 positions, which are 511 labels; fp64 half of that.
template <typename Real>
constexpr int kMostGroups = sizeof(Real) == 4 ? 16 : 8;
// States of more positions are in global memory; 64 KiB of shared memory are what every GPU has.
constexpr int64_t kMostOfShared = 2048;
constexpr int64_t kBytesOfAPosition = 4 * sizeof(double);

int64_t smaller_of(int64_t a, int64_t b) { return a < b ? a : b; }

template <typename Real, int kGroups>
int launch_warps(const Align& call, int more_than, int at_most, cudaStream_t stream) {
  const unsigned batch = static_cast<unsigned>(call.problem.batch);
  ctc_align_warp_kernel<Real, kGroups><<<batch, kWarp, 0, stream>>>(call, more_than, at_most);
  return cudaGetLastError();
}

// From kGroups on, until one has room for all targets that warps search.
template <typename Real, int kGroups>
int launch_ladder(const Align& call, int more_than, cudaStream_t stream) {
  const int64_t most = smaller_of(call.problem.most_labels, call.block_above);
  constexpr int kRoom = kWarp * kGroups - 1;
  constexpr int kNext = kGroups < kMostGroups<Real> ? 2 * kGroups : kGroups;
  // Concatenated: nobody knows on the host how long targets are, and each step of the ladder is a launch.
  const bool is_taken =
      call.problem.concatenated ? kGroups == 1 || kGroups == 4 || kGroups == kMostGroups<Real> : most <= kRoom;
  if (is_taken) {
    if (const int error = launch_warps<Real, kGroups>(call, more_than, kRoom, stream)) return error;
    more_than = kRoom;
  }
  if (kNext == kGroups || most <= more_than) return cudaSuccess;
  return launch_ladder<Real, kNext>(call, more_than, stream);
}

template <typename Real>
int launch_blocks(const Align& call, cudaStream_t stream) {
  const int shared = call.states_in_global ? 0 : static_cast<int>(call.ring * kBytesOfAPosition);
  const auto kernel = ctc_align_block_kernel<Real>;
  if (const int error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared)) return error;
  const unsigned batch = static_cast<unsigned>(call.problem.batch);
  ctc_align_block_kernel<Real><<<batch, kSearchThreads, shared, stream>>>(call);
  return cudaGetLastError();
}

template <typename In, int kThreads>
int launch_rows(const Align& call, cudaStream_t stream) {
  const int64_t rows = call.problem.frames * call.problem.batch, share = RowThreads<kThreads>::kRows;
  const unsigned grid = static_cast<unsigned>((rows + share - 1) / share);
  ctc_align_rows_kernel<In, kThreads><<<grid, kRowBlock, 0, stream>>>(call);
  return cudaGetLastError();
}

template <typename In>
int align_of(const Align& call, cudaStream_t stream) {
  using Real = RealOf<In>;
  const Problem& p = call.problem;
  if (p.concatenated) {
    ctc_place_kernel<<<1, kPlaceThreads, 0, stream>>>(p.target_lengths, p.batch, p.target_count, p.target_starts);
    if (const int error = cudaGetLastError()) return error;
  }
  if (p.frames > 0) {
    const int error = p.classes > kMostClassesOfAWarp ? launch_rows<In, kRowBlock>(call, stream)
                                                      : launch_rows<In, kWarp>(call, stream);
    if (error) return error;
  }
  // A target of no labels, and every faulty one, is a warp's.
  if (const int error = launch_ladder<Real, 1>(call, -1, stream)) return error;
  return p.most_labels > call.block_above ? launch_blocks<Real>(call, stream) : cudaSuccess;
}

}  // namespace

int64_t lay_out(Align& call, char* scratch) {
  Problem& p = call.problem;
  const bool is_wide = p.dtype == Dtype::kFloat64;
  const int64_t real = is_wide ? 8 : 4, rows = p.frames * p.batch;
  call.block_above = kWarp * (is_wide ? kMostGroups<double> : kMostGroups<float>)-1;
  const int64_t width = 2 * call.band + 2;
  call.banded_rows = call.band > 0 && p.batch * width < p.target_count + p.batch;

  Arena arena{scratch};
  p.target_starts = p.concatenated ? static_cast<int64_t*>(arena.take((p.batch + 1) * 8)) : nullptr;
  p.log_sum = arena.take(rows * real);
  call.windows = call.band > 0 ? arena.take(rows * sizeof(Window)) : nullptr;
  call.emissions = arena.take((call.banded_rows ? rows * width : p.frames * (p.target_count + p.batch)) * real);
  // Groups of all utterances: each begins where the groups of all labels before it could end.
  const int64_t groups = p.target_count / kWarp + p.batch;
  const int64_t group_rows = call.banded_rows ? rows * Moves::groups_of_band(call.band) : p.frames * groups;
  call.moves = static_cast<uint32_t*>(arena.take(group_rows * Moves::kPlanes * 4));
  if (p.most_labels <= call.block_above) return arena.used;

  call.skips = static_cast<uint32_t*>(arena.take(groups * 4));
  const int64_t positions = call.band > 0 ? smaller_of(2 * call.band + 1, p.most_labels + 1) : p.most_labels + 1;
  call.ring = 1;
  while (call.ring < positions) call.ring *= 2;
  const bool in_global = call.ring > kMostOfShared;
  call.states_in_global =
      in_global ? static_cast<double*>(arena.take(p.batch * call.ring * kBytesOfAPosition)) : nullptr;
  return arena.used;
}

int align(const Align& call, void* stream) {
  if (call.problem.batch == 0) return cudaSuccess;
  const auto on = static_cast<cudaStream_t>(stream);
  return for_element(call.problem.dtype, [&](auto element) { return align_of<decltype(element)>(call, on); });
}

}  // namespace lisa::ctc
