// q/k norm, rotary embedding and the KV append of a step in one pass: one warp per (token, head) of
// q, k and v. Reads and writes each element once (k's are written twice: in place and to the cache),
// so it is bound by memory, or at small batches by its launch.
#include "kernels/cuda/vectors.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kPerLane = kMaxHeadDim / 32;

struct RotateArgs {
  View<BFloat16> q;
  View<BFloat16> k;
  View<const BFloat16> v;
  View<BFloat16> cache_keys;
  View<BFloat16> cache_values;
  View<const float> q_norm;  // null: none
  View<const float> k_norm;
  View<const int32_t> positions;
  View<const int32_t> sequences;
  View<const int32_t> table_begins;
  View<const int32_t> tables;
  View<const float> cos;
  View<const float> sin;
  float eps = 0;
  int64_t n = 0;
  int num_q_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int rope_dim = 0;
  int block_tokens = 0;
  bool interleaved = false;
};

// Where the token's key of that head begins in the cache.
TESSERA_DEVICE int64_t CacheRow(const RotateArgs& args, int64_t token, int position, int kv_head) {
  const int64_t entry = args.table_begins.Get(args.sequences.Get(token)) +
                        int64_t{position / args.block_tokens};
  const int64_t block = args.tables.Get(entry);
  return ((block * args.num_kv_heads + kv_head) * args.block_tokens +
          position % args.block_tokens) *
         args.head_dim;
}

// The element that turns with element i of the rotary part.
TESSERA_DEVICE int PartnerOf(int i, int rope_dim, bool interleaved) {
  if (interleaved) return i ^ 1;
  return i < rope_dim / 2 ? i + rope_dim / 2 : i - rope_dim / 2;
}

TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(32 * kWarps, 8) void RotateAndStoreKernel(RotateArgs args) {
  TESSERA_SHARED(float, heads, kWarps * kMaxHeadDim);
  const int jobs = args.num_q_heads + 2 * args.num_kv_heads;  // per token
  const int64_t job = int64_t{BlockX()} * kWarps + WarpIndex();
  const int64_t token = job / jobs;
  if (token >= args.n) return;  // whole warps
  const int position = args.positions.Get(token);
  if (position < 0) return;
  const int index = static_cast<int>(job % jobs);
  const int dim = args.head_dim;

  if (index >= args.num_q_heads + args.num_kv_heads) {  // a value: only stored
    const int head = index - args.num_q_heads - args.num_kv_heads;
    const int64_t from = (token * args.num_kv_heads + head) * dim;
    const int64_t to = CacheRow(args, token, position, head);
    for (int i = Lane(); i < dim; i += 32) args.cache_values.Set(to + i, args.v.Get(from + i));
    return;
  }

  const bool is_query = index < args.num_q_heads;
  const int head = is_query ? index : index - args.num_q_heads;
  const View<BFloat16>& x = is_query ? args.q : args.k;
  const View<const float>& norm = is_query ? args.q_norm : args.k_norm;
  const int64_t begin =
      (token * (is_query ? args.num_q_heads : args.num_kv_heads) + head) * dim;
  float values[kPerLane];
  float squares = 0;
  TESSERA_UNROLL
  for (int j = 0; j < kPerLane; ++j) {
    const int i = j * 32 + Lane();
    values[j] = i < dim ? ToFloat(x.Get(begin + i)) : 0.0f;
    squares += values[j] * values[j];
  }
  const bool normed = !norm.IsNull();
  const float factor =
      normed ? Rsqrt(WarpSum(squares) / static_cast<float>(dim) + args.eps) : 1.0f;
  const int base = WarpIndex() * kMaxHeadDim;
  TESSERA_UNROLL
  for (int j = 0; j < kPerLane; ++j) {
    const int i = j * 32 + Lane();
    if (i < dim) {
      if (normed) values[j] = values[j] * factor * norm.Get(i);
      heads.Set(base + i, values[j]);
    }
  }
  SyncWarp();
  const int64_t row = is_query ? 0 : CacheRow(args, token, position, head);
  TESSERA_UNROLL
  for (int j = 0; j < kPerLane; ++j) {
    const int i = j * 32 + Lane();
    if (i < dim) {
      float value = values[j];
      if (i < args.rope_dim) {
        const int pairs = args.rope_dim / 2;
        const bool first = args.interleaved ? i % 2 == 0 : i < pairs;
        const int pair = args.interleaved ? i / 2 : i % pairs;
        const float cos = args.cos.Get(token * pairs + pair);
        const float sin = args.sin.Get(token * pairs + pair);
        const float partner = heads.Get(base + PartnerOf(i, args.rope_dim, args.interleaved));
        value = first ? value * cos - partner * sin : partner * sin + value * cos;
      }
      const BFloat16 rounded = FloatToBf16(value);
      x.Set(begin + i, rounded);
      if (!is_query) args.cache_keys.Set(row + i, rounded);
    }
  }
}

}  // namespace

int LaunchRotateAndStore(const AttentionHeads& heads, const HeadNorms& norms,
                         const StepArrays& step, const KvCache& cache, int64_t n, BFloat16* q,
                         BFloat16* k, const BFloat16* v, Stream stream) {
  if (n == 0) return kLaunched;
  if (heads.head_dim > kMaxHeadDim) return kNoSuchKernel;
  const int64_t dim = heads.head_dim;
  const int64_t cache_elements =
      cache.num_blocks * cache.num_kv_heads * cache.block_tokens * dim;
  const int64_t pairs = step.rope_dim / 2;
  RotateArgs args;
  args.q = TESSERA_VIEW(q, n * heads.num_q_heads * dim);
  args.k = TESSERA_VIEW(k, n * heads.num_kv_heads * dim);
  args.v = TESSERA_VIEW(v, n * heads.num_kv_heads * dim);
  args.cache_keys = TESSERA_VIEW(cache.keys, cache_elements);
  args.cache_values = TESSERA_VIEW(cache.values, cache_elements);
  args.q_norm = TESSERA_VIEW(norms.q_norm, dim);
  args.k_norm = TESSERA_VIEW(norms.k_norm, dim);
  args.positions = TESSERA_VIEW(step.positions, step.n_capacity);
  args.sequences = TESSERA_VIEW(step.sequences, step.n_capacity);
  args.table_begins = TESSERA_VIEW(step.table_begins, step.sequences_capacity);
  args.tables = TESSERA_VIEW(step.tables, step.tables_capacity);
  args.cos = TESSERA_VIEW(step.rope_cos, step.n_capacity * pairs);
  args.sin = TESSERA_VIEW(step.rope_sin, step.n_capacity * pairs);
  args.eps = norms.eps;
  args.n = n;
  args.num_q_heads = heads.num_q_heads;
  args.num_kv_heads = heads.num_kv_heads;
  args.head_dim = heads.head_dim;
  args.rope_dim = heads.rotary ? step.rope_dim : 0;
  args.block_tokens = cache.block_tokens;
  args.interleaved = step.rope_interleaved;
  const int64_t warps = n * (heads.num_q_heads + 2 * heads.num_kv_heads);
  return Launch("RotateAndStore", RotateAndStoreKernel,
                {.x = CeilDiv(warps, kWarps), .threads = 32 * kWarps}, stream, args);
}

}  // namespace tessera::kernels::cuda
