// Forced alignment on the CPU.  Compiled once per CPU capability; core/simd.h says what that forbids.  The search
// stands in lisa_kernels/ops/ctc_align/README.md.
#include <omp.h>

#include "ctc_align.h"
#include "ctc_align_utterance.h"

namespace lisa::LISA_CAPABILITY {
namespace {

// A slot of scratch is an utterance's own, or a thread's for one utterance after the other.
template <typename Real>
struct Slots {
  // Fewer utterances than threads: the threads share the rows of all, then each takes an utterance.
  bool rows_first;
  int64_t count, bytes, buffer_bytes;

  Slots(const CtcAlign& p, int threads) : rows_first(p.batch < threads), bytes(0) {
    count = rows_first ? p.batch : threads;
    for (int64_t n = 0; n < p.batch; ++n) bytes = larger(bytes, AlignMemory<Real>(p, room_of(p, n), nullptr).used);
    buffer_bytes = p.has_star ? align_64(p.classes * static_cast<int64_t>(sizeof(Real))) : 0;
  }
  int64_t all_bytes(int threads) const { return count * bytes + threads * buffer_bytes; }
  char* slot(const CtcAlign& p, int64_t i) const { return p.scratch + i * bytes; }
  Real* buffer(const CtcAlign& p, int thread) const {
    return reinterpret_cast<Real*>(p.scratch + count * bytes + thread * buffer_bytes);
  }
};

template <typename Real, typename In>
void align(const CtcAlign& p, int threads) {
  const Slots<Real> slots(p, threads);
#pragma omp parallel num_threads(threads)
  {
    const int thread = omp_get_thread_num();
    Real* buffer = slots.buffer(p, thread);
    if (slots.rows_first) {
      for (int64_t n = 0; n < p.batch; ++n) {
        Alignment<Real, In> utterance(p, n, slots.slot(p, n));
#pragma omp for schedule(static)
        for (int64_t t = 0; t < utterance.frames(); ++t) utterance.read_row(t, buffer);
      }
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t n = 0; n < p.batch; ++n)
      Alignment<Real, In>(p, n, slots.slot(p, slots.rows_first ? n : thread)).run(slots.rows_first, buffer);
  }
}

}  // namespace

int64_t ctc_align_scratch_bytes(const CtcAlign& p, int threads) {
  return p.dtype == Dtype::kFloat64 ? Slots<double>(p, threads).all_bytes(threads)
                                    : Slots<float>(p, threads).all_bytes(threads);
}

void ctc_align(const CtcAlign& p, int threads) {
  switch (p.dtype) {
    case Dtype::kFloat32: return align<float, float>(p, threads);
    case Dtype::kFloat64: return align<double, double>(p, threads);
    case Dtype::kBFloat16: return align<float, BFloat16>(p, threads);
    case Dtype::kFloat16: return align<float, Float16>(p, threads);
  }
}

}  // namespace lisa::LISA_CAPABILITY
