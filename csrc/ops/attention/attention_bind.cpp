// at::Tensor -> parameters, and the choice of the capability's build.  Light ATen headers only.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>

#include "../../core/capability.h"
#include "attention_schedule.h"

namespace {
using lisa::AttentionBackward;
using lisa::AttentionForward;
using lisa::AttentionMatrix;
using lisa::AttentionProblem;
using lisa::AttentionTable;
using lisa::AttentionTokenSet;
using lisa::Dtype;

struct Kernels {
  decltype(&lisa::baseline::attention_forward_scratch) forward_scratch, backward_scratch;
  decltype(&lisa::baseline::attention_forward) forward;
  decltype(&lisa::baseline::attention_backward) backward;
};

#define LISA_KERNELS(capability)                                                               \
  Kernels {                                                                                    \
    lisa::capability::attention_forward_scratch, lisa::capability::attention_backward_scratch, \
        lisa::capability::attention_forward, lisa::capability::attention_backward              \
  }

Kernels kernels() {
  switch (lisa::cpu_capability()) {
#if defined(LISA_HAVE_X86)
    case lisa::Capability::kAvx512Bf16: return LISA_KERNELS(avx512bf16);
    case lisa::Capability::kAvx512: return LISA_KERNELS(avx512);
    case lisa::Capability::kAvx2: return LISA_KERNELS(avx2);
#endif
    default: return LISA_KERNELS(baseline);
  }
}

Dtype dtype_of(const at::Tensor& q) {
  switch (q.scalar_type()) {
    case at::kFloat: return Dtype::kFloat32;
    case at::kBFloat16: return Dtype::kBFloat16;
    case at::kHalf: return Dtype::kFloat16;
    default:
      TORCH_CHECK_TYPE(false, "cross_modal_attention: q is ", q.scalar_type(),
                       "; the native kernel takes float32, bfloat16 or float16.");
  }
}

// The plan's tensors that the CPU reads; tile lists are for machines with tiles in hardware.
struct Plan {
  const at::Tensor &tokens_q, &tokens_k, &words, &head_type;
  bool causal, reordered;
};

void check_table(const at::Tensor& table, const char* name, int64_t count, bool reordered) {
  TORCH_CHECK_VALUE(table.dim() == 2 && table.scalar_type() == at::kInt && table.is_contiguous() &&
                        table.size(0) >= (reordered ? 5 : 4) && table.size(1) >= count,
                    "cross_modal_attention: ", name, " must be a plan's int32 table here; attention_plan makes it.");
  if (!reordered) return;
  const int32_t* token = table.const_data_ptr<int32_t>() + 4 * table.size(1);
  for (int64_t slot = 0; slot < count; ++slot)
    TORCH_CHECK_VALUE(token[slot] >= 0 && token[slot] < count, "cross_modal_attention: ", name, " names token ",
                      token[slot], "; it takes 0 to ", count - 1, ".");
}

AttentionTable table_of(const at::Tensor& tokens, int64_t count, bool reordered) {
  return {tokens.const_data_ptr<int32_t>(), tokens.size(1), count, reordered};
}

AttentionMatrix matrix_of(const at::Tensor& x, const char* name) {
  TORCH_CHECK_VALUE(x.dim() == 3 && (x.stride(2) == 1 || x.size(2) <= 1), "cross_modal_attention: ", name,
                    " must be [tokens, heads, width] with dense rows here; lisa_kernels brings it so.");
  return {x.const_data_ptr(), x.stride(0), x.stride(1)};
}

void check_saved(const at::Tensor& x, const char* name, at::IntArrayRef sizes, at::ScalarType dtype) {
  TORCH_CHECK_VALUE(x.sizes() == sizes && x.scalar_type() == dtype && x.is_contiguous(),
                    "cross_modal_attention: ", name, " must be contiguous ", dtype, " ", sizes, " here; it is ",
                    x.scalar_type(), " ", x.sizes(), ".");
}

// A problem and what it points to.
struct Problem {
  AttentionProblem p{};
  AttentionTokenSet queries, keys;
  int threads = at::get_num_threads();
  at::Tensor scratch;

  Problem(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Plan& plan, double scale, bool backward)
      : queries(checked(plan.tokens_q, "tokens_q", q, plan.reordered), plan.causal,
                backward ? lisa::kPanelTokens : lisa::kTileRows, backward ? lisa::kPanelTokens : 6),
        keys(checked(plan.tokens_k, "tokens_k", k, plan.reordered), plan.causal, lisa::kPanelTokens,
             lisa::kPanelTokens) {
    p.dtype = dtype_of(q);
    p.q = matrix_of(q, "q"), p.k = matrix_of(k, "k"), p.v = matrix_of(v, "v");
    p.queries = q.size(0), p.query_heads = q.size(1), p.width = q.size(2);
    p.key_heads = k.size(1), p.value_width = v.size(2);
    TORCH_CHECK_VALUE(k.scalar_type() == q.scalar_type() && v.scalar_type() == q.scalar_type() &&
                          k.size(2) == p.width && v.size(0) == k.size(0) && v.size(1) == p.key_heads &&
                          p.key_heads > 0 && p.query_heads % p.key_heads == 0 && p.width % 2 == 0,
                      "cross_modal_attention: q, k and v do not fit each other; lisa_kernels checks them.");
    check_words(plan);
    p.words = plan.words.const_data_ptr<int32_t>(), p.head_type = plan.head_type.const_data_ptr<int32_t>();
    p.scale = static_cast<float>(scale);
  }

  static AttentionTable checked(const at::Tensor& tokens, const char* name, const at::Tensor& x, bool reordered) {
    TORCH_CHECK_VALUE(x.dim() == 3, "cross_modal_attention: q, k and v are [tokens, heads, width].");
    check_table(tokens, name, x.size(0), reordered);
    return table_of(tokens, x.size(0), reordered);
  }

  void check_words(const Plan& plan) const {
    TORCH_CHECK_VALUE(plan.words.dim() == 3 && plan.words.size(1) == 4 && plan.words.size(2) == 33 &&
                          plan.words.scalar_type() == at::kInt && plan.words.is_contiguous() &&
                          plan.head_type.scalar_type() == at::kInt && plan.head_type.is_contiguous() &&
                          plan.head_type.numel() == p.query_heads,
                      "cross_modal_attention: words and head_type must be a plan's int32 tables here.");
    const int32_t* type = plan.head_type.const_data_ptr<int32_t>();
    for (int64_t head = 0; head < p.query_heads; ++head)
      TORCH_CHECK_VALUE(type[head] >= 0 && type[head] < plan.words.size(0), "cross_modal_attention: head_type holds ",
                        type[head], "; it takes 0 to ", plan.words.size(0) - 1, ".");
  }

  void allocate(int64_t bytes) {
    p.scratch_bytes = bytes;
    scratch = at::empty({bytes * threads + 64}, at::kByte);
    const auto address = reinterpret_cast<uintptr_t>(scratch.data_ptr());
    p.scratch = reinterpret_cast<char*>((address + 63) / 64 * 64);
  }
};

// Rows of tokens that belong to no sample.
void clear_rows(const at::Tensor& x, const std::vector<int64_t>& tokens) {
  const int64_t element = static_cast<int64_t>(x.element_size());
  for (const int64_t token : tokens)
    for (int64_t head = 0; head < x.size(1); ++head)
      std::memset(static_cast<char*>(x.data_ptr()) + (token * x.stride(0) + head * x.stride(1)) * element, 0,
                  static_cast<size_t>(x.size(2) * element));
}

std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                           const at::Tensor& tokens_q, const at::Tensor& tokens_k,
                                           const at::Tensor& words, const at::Tensor& head_type, double scale,
                                           bool causal, bool reordered) {
  Problem problem(q, k, v, {tokens_q, tokens_k, words, head_type, causal, reordered}, scale, false);
  AttentionProblem& p = problem.p;
  auto out = at::empty({p.queries, p.query_heads, p.value_width}, q.options());
  auto lse2 = at::empty({p.query_heads, p.queries}, q.options().dtype(at::kFloat));
  clear_rows(out, problem.queries.padding);
  float* lse2_data = lse2.data_ptr<float>();
  for (int64_t head = 0; head < p.query_heads; ++head)
    for (const int64_t token : problem.queries.padding)
      lse2_data[head * p.queries + token] = std::numeric_limits<float>::infinity();

  const Kernels run = kernels();
  const lisa::AttentionSchedule schedule(problem.queries, problem.keys, p, false, problem.threads);
  problem.allocate(run.forward_scratch(p));
  run.forward({p, out.data_ptr(), lse2_data}, problem.threads);
  return {out, lse2};
}

// Writes into the gradients, whose strides the caller chooses; an empty one is not wanted.
void backward(const at::Tensor& grad_out, const at::Tensor& grad_lse2, const at::Tensor& q, const at::Tensor& k,
              const at::Tensor& v, const at::Tensor& out, const at::Tensor& lse2, const at::Tensor& tokens_q,
              const at::Tensor& tokens_k, const at::Tensor& words, const at::Tensor& head_type, double scale,
              bool causal, bool reordered, const at::Tensor& grad_q, const at::Tensor& grad_k,
              const at::Tensor& grad_v) {
  Problem problem(q, k, v, {tokens_q, tokens_k, words, head_type, causal, reordered}, scale, true);
  AttentionProblem& p = problem.p;
  for (const auto& [x, name] : {std::pair(&out, "out"), std::pair(&grad_out, "grad_out")})
    check_saved(*x, name, {p.queries, p.query_heads, p.value_width}, q.scalar_type());
  for (const auto& [x, name] : {std::pair(&lse2, "lse2"), std::pair(&grad_lse2, "grad_lse2")})
    check_saved(*x, name, {p.query_heads, p.queries}, at::kFloat);
  AttentionBackward call{p,
                         out.const_data_ptr(),
                         grad_out.const_data_ptr(),
                         lse2.const_data_ptr<float>(),
                         grad_lse2.const_data_ptr<float>(),
                         {},
                         {},
                         {}};
  const auto attach = [](const at::Tensor& grad, const at::Tensor& x, const std::vector<int64_t>& padding,
                         AttentionMatrix& matrix, const char* name) {
    if (grad.numel() == 0) return;
    TORCH_CHECK_VALUE(grad.sizes() == x.sizes() && grad.scalar_type() == x.scalar_type(),
                      "cross_modal_attention: ", name, " must have the shape and dtype of its input.");
    matrix = matrix_of(grad, name);
    clear_rows(grad, padding);
  };
  attach(grad_q, q, problem.queries.padding, call.grad_q, "grad_q");
  attach(grad_k, k, problem.keys.padding, call.grad_k, "grad_k");
  attach(grad_v, v, problem.keys.padding, call.grad_v, "grad_v");

  const Kernels run = kernels();
  const lisa::AttentionSchedule schedule(problem.queries, problem.keys, p, true, problem.threads);
  problem.allocate(run.backward_scratch(p));
  call.problem = p;
  run.backward(call, problem.threads);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(lisa_C, m) {
  m.def(
      "cross_modal_attention_fwd(Tensor q, Tensor k, Tensor v, Tensor tokens_q, Tensor tokens_k, Tensor words,"
      " Tensor head_type, float scale, bool causal, bool reordered) -> (Tensor out, Tensor lse2)");
  m.def(
      "cross_modal_attention_bwd(Tensor grad_out, Tensor grad_lse2, Tensor q, Tensor k, Tensor v, Tensor out,"
      " Tensor lse2, Tensor tokens_q, Tensor tokens_k, Tensor words, Tensor head_type, float scale, bool causal,"
      " bool reordered, Tensor(a!) grad_q, Tensor(b!) grad_k, Tensor(c!) grad_v) -> ()");
}
TORCH_LIBRARY_IMPL(lisa_C, CPU, m) {
  m.impl("cross_modal_attention_fwd", &forward);
  m.impl("cross_modal_attention_bwd", &backward);
}
