// Parameters of the CPU kernels of cross_modal_attention.  No torch header.  lisa_kernels/ops/attention/README.md
// defines the operation.
#pragma once
#include <cstdint>

#include "../../core/dtype.h"

namespace lisa {

// Keys, and queries in backward, are taken in panels of this many tokens of one group: the width of a packed matrix.
constexpr int kPanelTokens = 64;
// Rows of queries of a softmax step in forward: 8 blocks of the register kernel.
constexpr int kTileRows = 48;

// The tokens of one class of one sample, in the order of their positions.
struct AttentionGroup {
  int64_t first, count;  // of token and position of the set
  int32_t sample, kind;  // kind: the plan's class
};

// Up to kTileRows or kPanelTokens neighbours of one group.
struct AttentionTile {
  int64_t first;  // of token and position of the set
  int32_t count, group;
};

// Queries or keys.  Tokens of padding are in no group.
struct AttentionTokens {
  const int64_t* token;     // rows of q, or of k and v
  const int32_t* position;  // theirs
  const AttentionGroup* groups;
  const AttentionTile* tiles;
};

// Half-open ranges of groups and tiles of one sample.
struct AttentionSample {
  int64_t first_query_tile, end_query_tile;
  int64_t first_key_group, end_key_group;
  int64_t first_key_tile, end_key_tile;
};

// What one thread does in one go.  Whoever does it, and however a sample's tiles are shared out, the bits are the same:
// a query's row and a key's gradient each belong to one unit, which sums in the order of the tiles.
struct AttentionUnit {
  int64_t sample, key_head;
  int64_t first_query_tile, end_query_tile;
  int64_t first_key_tile, end_key_tile;
  bool grad_queries, grad_keys;  // backward: which gradients the unit owns
};

// [tokens, heads, width], dense in width.
struct AttentionMatrix {
  const void* data;
  int64_t token_stride, head_stride;  // in elements
};

struct AttentionProblem {
  Dtype dtype;
  AttentionMatrix q, k, v;
  int64_t query_heads, key_heads, width, value_width;
  int64_t queries;  // T, the row length of lse2
  float scale;

  AttentionTokens query_tokens, key_tokens;
  const AttentionSample* samples;
  const AttentionUnit* units;  // most work first
  int64_t unit_count;
  const int32_t* words;      // [types, 4, 33]
  const int32_t* head_type;  // [query_heads]

  // Query tiles of a unit, times heads of its group, that wait for their next block of keys; 1 where no unit has two.
  int64_t waiting_tiles;
  char* scratch;  // scratch_bytes for each thread, 64-byte aligned
  int64_t scratch_bytes;
};

struct AttentionForward {
  AttentionProblem problem;
  void* out;    // [T, query_heads, value_width]
  float* lse2;  // [query_heads, T]
};

struct AttentionBackward {
  AttentionProblem problem;
  const void *out, *grad_out;              // [T, query_heads, value_width]
  const float *lse2, *grad_lse2;           // [query_heads, T]
  AttentionMatrix grad_q, grad_k, grad_v;  // data is null where nobody wants the gradient
};

enum class Visibility : int { kNone, kFull, kCausal };

// What queries of one class see of keys of another class of the same sample, for a head type.
static inline Visibility visibility_of(const AttentionProblem& p, int64_t type, int query_kind, int key_kind) {
  const int32_t* words = p.words + type * 4 * 33;
  const uint32_t bit = 1u << (key_kind & 31);
  if (!(static_cast<uint32_t>(words[query_kind]) & bit)) return Visibility::kNone;
  return static_cast<uint32_t>(words[33 + query_kind]) & bit ? Visibility::kFull : Visibility::kCausal;
}

// Key panels of a block, which is packed once and used for all query tiles of a unit: K and V of a block and the work
// on it stay in an L2 cache of 1 MiB.  `matrices`: how many of them are kept for a panel, as multiples of fp32 [64, D].
static inline int64_t block_panels(int64_t bytes_of_panel) {
  constexpr int64_t kBlockBytes = 1 << 19;
  const int64_t panels = kBlockBytes / bytes_of_panel;
  return panels < 4 ? 4 : panels;
}

static inline int64_t forward_block_panels(const AttentionProblem& p) {
  return block_panels(kPanelTokens * 4 * (p.width + p.value_width));
}

static inline int64_t backward_block_panels(const AttentionProblem& p) {
  return block_panels(kPanelTokens * 2 * (3 * p.width + 2 * p.value_width));
}

// Each capability's build of attention_cpu.cpp has these.
#define LISA_DECLARE_ATTENTION(capability)                          \
  namespace capability {                                            \
  int64_t attention_forward_scratch(const AttentionProblem& p);     \
  int64_t attention_backward_scratch(const AttentionProblem& p);    \
  void attention_forward(const AttentionForward& p, int threads);   \
  void attention_backward(const AttentionBackward& p, int threads); \
  }
LISA_DECLARE_ATTENTION(baseline)
#if defined(LISA_HAVE_X86)
LISA_DECLARE_ATTENTION(avx2)
LISA_DECLARE_ATTENTION(avx512)
LISA_DECLARE_ATTENTION(avx512bf16)
#endif
#undef LISA_DECLARE_ATTENTION

}  // namespace lisa
