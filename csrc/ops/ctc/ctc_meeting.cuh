// An utterance from its emissions to loss and posteriors: both directions walk to the middle, where the loss follows,
// and each goes on through the other's half.
#pragma once
#include "ctc_walk.cuh"

namespace lisa::ctc {

// Rows of a direction.  All frames kept: a row a step of the first half, then the last one's, where the directions
// meet. Else: the states before each segment, at the meeting, and of the walk from there; then the rows of a segment.
template <typename Real>
struct Rows {
  Direction<Real> direction;
  int width, segment;
  int64_t count;

  __device__ Scaled<Real>* at(int64_t row) const { return direction.rows + row * width; }
  __device__ bool keeps_all() const { return segment == 0; }
  __device__ int segments() const { return keeps_all() ? 1 : (direction.half + segment - 1) / segment; }
  __device__ Scaled<Real>* checkpoint(int q) const { return at(q); }
  __device__ Scaled<Real>* meeting() const { return at(keeps_all() ? count - 1 : count - 2 - segment); }
  __device__ Scaled<Real>* going_on() const { return at(count - 1 - segment); }
  __device__ Scaled<Real>* in_segment() const { return at(count - segment); }
};

template <typename Real>
__device__ inline Rows<Real> rows_of(const Forward& call, const Lattice<Real>& lattice, bool is_forward) {
  const Utterance& u = lattice.u;
  Rows<Real> rows;
  rows.width = lattice.row_width();
  rows.segment = static_cast<int>(call.segment);
  rows.count = call.rows;
  rows.direction.is_forward = is_forward;
  rows.direction.half = is_forward ? u.frames / 2 : u.frames - u.frames / 2;
  // Of the utterances before this one: two rows of 2S + 1 for every row.
  rows.direction.rows = static_cast<Scaled<Real>*>(call.states) +
                        call.rows * (2 * (u.target.position + u.target.start) + (is_forward ? 0 : rows.width));
  rows.direction.borders =
      static_cast<Scaled<Real>*>(call.strip_borders) + (u.n * 2 + (is_forward ? 0 : 1)) * 2 * call.problem.frames;
  rows.direction.border_width = static_cast<int>(call.problem.frames);
  return rows;
}

template <typename Real>
__device__ inline Lattice<Real> lattice_of(const Forward& call, const Utterance& u) {
  const int64_t first = row_of(call.problem, u.target, u.labels, 0);
  return {&call.problem,
          u,
          static_cast<const Scaled<Real>*>(call.emissions) + first,
          static_cast<Real*>(call.posteriors) + (call.save ? first : 0),
          static_cast<Real*>(call.blank_parts) + (call.save ? u.n * call.problem.frames * call.parts : 0),
          call.parts};
}

// Whether a lane of the calling warp found a label that is no class.
__device__ inline bool has_faulty_label(const Problem& p, const Utterance& u) {
  bool found = false;
  for (int j = threadIdx.x % kWarp; j < u.labels; j += kWarp) {
    const int64_t label = label_at(p, u.target.start + j);
    found |= !is_class(p, label) && !is_star(p, label);
  }
  return __any_sync(kAllLanes, found) != 0;
}

template <typename P>
__device__ inline void walk_to_meeting(const Forward& call, const Lattice<typename P::Real>& lattice,
                                       const Rows<typename P::Real>& rows, Scaled<typename P::Real>* ring) {
  using Real = typename P::Real;
  const int half = rows.direction.half;
  if (rows.keeps_all() && call.save) {
    walk<P, Leaves::kStates>(lattice, rows.direction,
                             {0, half, nullptr, rows.meeting(), rows.direction.rows, nullptr, 0}, ring);
    return;
  }
  const Scaled<Real>* from = nullptr;
  for (int q = 0; q < rows.segments() || q == 0; ++q) {
    const int end = rows.keeps_all() ? half : smaller(half, (q + 1) * rows.segment);
    Scaled<Real>* to = end == half ? rows.meeting() : rows.checkpoint(q + 1);
    walk<P, Leaves::kNothing>(lattice, rows.direction, {q * rows.segment, end, from, to, nullptr, nullptr, 0}, ring);
    from = to;
  }
}

template <typename P>
__device__ inline void walk_from_meeting(const Lattice<typename P::Real>& lattice, const Rows<typename P::Real>& rows,
                                         const Rows<typename P::Real>& other, int64_t total_exponent,
                                         Scaled<typename P::Real>* ring) {
  using Real = typename P::Real;
  const int frames = lattice.u.frames;
  const Scaled<Real>* from = rows.meeting();
  // The other direction's walk once more, beside the other direction itself.
  Direction<Real> again = other.direction;
  again.borders = rows.direction.borders;
  for (int q = other.segments() - 1; q >= 0; --q) {
    const int begin = q * other.segment,
              end = other.keeps_all() ? other.direction.half : smaller(other.direction.half, begin + other.segment);
    const Scaled<Real>* states = other.direction.rows;
    if (!other.keeps_all()) {
      states = rows.in_segment();
      walk<P, Leaves::kStates>(
          lattice, again, {begin, end, q == 0 ? nullptr : other.checkpoint(q), nullptr, rows.in_segment(), nullptr, 0},
          ring);
      P::sync();
    }
    // Step i of this direction is the frame of the other's step frames - 1 - i.
    Scaled<Real>* to = q == 0 ? nullptr : rows.going_on();
    walk<P, Leaves::kPosteriors>(
        lattice, rows.direction,
        {frames - end, frames - begin, from, to, nullptr, states + static_cast<int64_t>(end - 1 - begin) * rows.width,
         static_cast<IntOf<Real>>(total_exponent)},
        ring);
    P::sync();
    from = to;
  }
}

// Total probability, by a warp: the forward states moved to the next frame, times the backward states at that frame.
template <typename Real>
__device__ inline Wide total_at_meeting(const Lattice<Real>& lattice, const Rows<Real>& forward,
                                        const Rows<Real>& backward) {
  const Scaled<Real>*alpha = forward.meeting(), *beta = backward.meeting();
  const int labels = lattice.u.labels, lane = threadIdx.x % kWarp;
  if (lattice.u.frames == 0) return labels == 0 ? Wide{1, 0} : Wide{0, 0};
  const auto blank = [&](const Scaled<Real>* row, int j) { return widened(row[j]); };
  const auto label = [&](const Scaled<Real>* row, int j) { return widened(row[labels + 1 + j]); };
  Wide total{0, 0};
  for (int j = lane; j <= labels; j += kWarp) {
    const Wide to_blank = j == 0 ? blank(alpha, 0) : blank(alpha, j) + label(alpha, j - 1);
    total = total + to_blank * blank(beta, labels - j);
    if (j == labels) break;
    const int64_t start = lattice.u.target.start;
    const bool skips = j > 0 && label_at(*lattice.problem, start + j) != label_at(*lattice.problem, start + j - 1);
    total = total + (label(alpha, j) + (skips ? to_blank : blank(alpha, j))) * label(beta, labels - 1 - j);
  }
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    total = total + Wide{__shfl_down_sync(kAllLanes, total.mantissa, distance),
                         __shfl_down_sync(kAllLanes, total.exponent, distance)};
  return {__shfl_sync(kAllLanes, total.mantissa, 0), __shfl_sync(kAllLanes, total.exponent, 0)};
}

// By a warp: the loss, and what tells backward of an utterance without one.
template <typename Real>
__device__ inline void finish(const Forward& call, const Utterance& u, bool faulty, Wide total) {
  const Problem& p = call.problem;
  const int lane = threadIdx.x % kWarp;
  // A faulty logit has made the total NaN.
  faulty |= total.mantissa != total.mantissa;
  const bool feasible = !faulty && total.mantissa > 0;
  if (lane == 0) {
    constexpr double kLn2 = 0.6931471805599453;
    const double loss = faulty     ? not_a_number(0.0)
                        : feasible ? -(log2(total.mantissa) + static_cast<double>(total.exponent)) * kLn2
                                   : infinity<double>();
    static_cast<Real*>(call.loss)[u.n] = call.zero_infinity && !faulty && !feasible ? Real(0) : static_cast<Real>(loss);
    if (call.is_feasible) call.is_feasible[u.n] = feasible;
  }
  if (feasible) return;
  for (int64_t t = lane; t < u.valid_frames; t += kWarp) {
    static_cast<Real*>(p.log_sum)[t * p.batch + u.n] = faulty ? not_a_number(Real(0)) : infinity<Real>();
    if (faulty) static_cast<Real*>(p.row_max)[t * p.batch + u.n] = Real(0);
  }
}

// A warp for each direction.  Takes utterances of `more_than` to `at_most` labels, the former not included.
template <typename Real, int kPairs>
__global__ void __launch_bounds__(2 * kWarp, 1) ctc_warp_walk_kernel(Forward call, int more_than, int at_most) {
  using P = Plan<Real, kPairs, 1>;
  extern __shared__ uint4 walk_memory[];
  Scaled<Real>* ring = reinterpret_cast<Scaled<Real>*>(walk_memory);
  const Utterance u = utterance_of(call, blockIdx.x);
  if (u.labels <= more_than || u.labels > at_most) return;
  const bool is_forward = threadIdx.x < kWarp;
  const bool faulty = u.faulty || has_faulty_label(call.problem, u);
  const Lattice<Real> lattice = lattice_of<Real>(call, u);
  const Rows<Real> own = rows_of<Real>(call, lattice, is_forward), other = rows_of<Real>(call, lattice, !is_forward);

  if (!faulty && u.frames > 0) walk_to_meeting<P>(call, lattice, own, ring);
  __syncthreads();
  const Wide total =
      faulty ? Wide{0, 0} : total_at_meeting(lattice, is_forward ? own : other, is_forward ? other : own);
  if (is_forward) finish<Real>(call, u, faulty, total);
  if (!call.save || faulty || u.frames == 0 || !(total.mantissa > 0)) return;
  walk_from_meeting<P>(lattice, own, other, total.exponent, ring);
}

// A block for each direction, of longer targets.  Blocks cannot wait for each other: one launch ends at the meeting,
// the next one begins there.
template <typename Real, int kPairs, int kWarps, bool kToMeeting>
__global__ void __launch_bounds__(kWarps* kWarp, 1) ctc_block_walk_kernel(Forward call, int more_than) {
  using P = Plan<Real, kPairs, kWarps>;
  extern __shared__ uint4 walk_memory[];
  Scaled<Real>* ring = reinterpret_cast<Scaled<Real>*>(walk_memory);
  const Utterance u = utterance_of(call, blockIdx.x);
  if (u.labels <= more_than) return;
  const bool is_forward = blockIdx.y == 0;
  const bool faulty = u.faulty || has_faulty_label(call.problem, u);
  const Lattice<Real> lattice = lattice_of<Real>(call, u);
  const Rows<Real> own = rows_of<Real>(call, lattice, is_forward), other = rows_of<Real>(call, lattice, !is_forward);
  if constexpr (kToMeeting) {
    if (!faulty && u.frames > 0) walk_to_meeting<P>(call, lattice, own, ring);
  } else {
    const Wide total =
        faulty ? Wide{0, 0} : total_at_meeting(lattice, is_forward ? own : other, is_forward ? other : own);
    if (is_forward && threadIdx.x < kWarp) finish<Real>(call, u, faulty, total);
    if (!call.save || faulty || u.frames == 0 || !(total.mantissa > 0)) return;
    walk_from_meeting<P>(lattice, own, other, total.exponent, ring);
  }
}

}  // namespace lisa::ctc
