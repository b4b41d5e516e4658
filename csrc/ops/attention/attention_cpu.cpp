// cross_modal_attention on the CPU.  Compiled once per CPU capability; core/simd.h says what that forbids.
#include <omp.h>

#include "attention.h"
#include "attention_backward.h"
#include "attention_forward.h"

namespace lisa::LISA_CAPABILITY {
namespace {

#if defined(__AVX512BF16__)
using BFloat16Products = PairProducts;
#else
using BFloat16Products = SingleProducts;
#endif

// Units are taken one by one, those with most work first.
template <template <typename, typename> typename Unit, typename Products, typename In, typename Call>
void run_units(const Call& call, int threads) {
  const AttentionProblem& p = call.problem;
#pragma omp parallel num_threads(threads)
  {
    char* scratch = p.scratch + omp_get_thread_num() * p.scratch_bytes;
    RowsAhead<In> ahead;
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < p.unit_count; ++i) {
      // Most likely: units that follow each other take nearly equal times.
      const int64_t next = smaller(i + threads, p.unit_count - 1);
      Unit<Products, In>(call, p.units[i], p.units[next], ahead, scratch).run();
    }
  }
}

}  // namespace

int64_t attention_forward_scratch(const AttentionProblem& p) {
  return p.dtype == Dtype::kBFloat16 ? ForwardScratch<BFloat16Products>(p, nullptr).bytes
                                     : ForwardScratch<SingleProducts>(p, nullptr).bytes;
}

int64_t attention_backward_scratch(const AttentionProblem& p) {
  return p.dtype == Dtype::kBFloat16 ? BackwardScratch<BFloat16Products>(p, nullptr).bytes
                                     : BackwardScratch<SingleProducts>(p, nullptr).bytes;
}

void attention_forward(const AttentionForward& p, int threads) {
  switch (p.problem.dtype) {
    case Dtype::kBFloat16: return run_units<ForwardUnit, BFloat16Products, BFloat16>(p, threads);
    case Dtype::kFloat16: return run_units<ForwardUnit, SingleProducts, Float16>(p, threads);
    default: return run_units<ForwardUnit, SingleProducts, float>(p, threads);
  }
}

void attention_backward(const AttentionBackward& p, int threads) {
  switch (p.problem.dtype) {
    case Dtype::kBFloat16: return run_units<BackwardUnit, BFloat16Products, BFloat16>(p, threads);
    case Dtype::kFloat16: return run_units<BackwardUnit, SingleProducts, Float16>(p, threads);
    default: return run_units<BackwardUnit, SingleProducts, float>(p, threads);
  }
}

}  // namespace lisa::LISA_CAPABILITY
