// Attention of runs of tokens: one block per 64 query rows (token, head of the group) of one KV head,
// 16 rows per warp; keys and values in shared memory, the next tile copied while this one is
// multiplied. Bound by the tensor cores: 4 · head_dim operations per (query head, token, position).
//
// Each chunk's sums stay in registers; the sums of the chunks before wait in shared memory, where a
// lane reads and writes its own values only.
#include "kernels/cuda/attention.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kWarps = kPrefillRows / 16;
constexpr int kThreads = 32 * kWarps;

// Elements per position: gaps against bank conflicts of 16-byte reads by (position, 16 bytes of 64)
// and of transposed 8 × 8 matrices.
template <int kDim>
constexpr int kKeyPitch = kDim + 32;
template <int kDim>
constexpr int kValuePitch = kDim + 8;
template <int kDim>
constexpr int kKeyBytes = kTilePositions * kKeyPitch<kDim> * 2;
template <int kDim>
constexpr int kStageBytes = kKeyBytes<kDim> + kTilePositions * kValuePitch<kDim> * 2;
// Large heads: shared memory has room for one tile only.
template <int kDim>
constexpr int kStages = kDim > 128 ? 1 : 2;
template <int kDim>
constexpr int kTotalBytes = kThreads * (kDim / 8) * 16;
template <int kDim>
constexpr int kSharedBytes = kStages<kDim> * kStageBytes<kDim> + kTotalBytes<kDim>;

struct PrefillArgs {
  AttentionArgs base;
  View<const PrefillItem> items;
};

template <int kDim>
TESSERA_DEVICE Shared<BFloat16> KeysOf(int stage) {
  return DynamicShared<BFloat16>(stage * kStageBytes<kDim>, kTilePositions * kKeyPitch<kDim>);
}
template <int kDim>
TESSERA_DEVICE Shared<BFloat16> ValuesOf(int stage) {
  return DynamicShared<BFloat16>(stage * kStageBytes<kDim> + kKeyBytes<kDim>,
                                 kTilePositions * kValuePitch<kDim>);
}

// The whole block copies a tile's keys and values; every warp 16 positions.
template <int kDim>
TESSERA_DEVICE void StageTile(const AttentionArgs& args, int table_begin, int kv_head,
                              int tile_begin, int first, int last, int stage) {
  constexpr int kPieces = kDim / 8;
  const Shared<BFloat16> keys = KeysOf<kDim>(stage);
  const Shared<BFloat16> values = ValuesOf<kDim>(stage);
  const int position_of_lane = tile_begin + 16 * WarpIndex() + Lane() % 16;
  const int row_of_lane = position_of_lane >= first && position_of_lane <= last
                              ? CacheRow(args, table_begin, kv_head, position_of_lane)
                              : -1;
  TESSERA_UNROLL
  for (int i = 0; i < 16 * kPieces / 32; ++i) {
    const int piece = 32 * i + Lane();
    const int row = Shuffle(row_of_lane, piece / kPieces);
    const int position = 16 * WarpIndex() + piece / kPieces;
    const int dim = piece % kPieces * 8;
    StageCache(args, args.keys, row, dim, keys, position * kKeyPitch<kDim> + dim);
    StageCache(args, args.values, row, dim, values, position * kValuePitch<kDim> + dim);
  }
  CpAsyncCommit();
}

// Adds a tile to the chunk's running result.
template <int kDim>
TESSERA_DEVICE void AttendTile(const AttentionArgs& args, const int64_t (&query)[2],
                               const uint32_t (&q)[kDim <= 128 ? kDim / 32 : 1][2][4],
                               int tile_begin, const int (&first)[2], const int (&last)[2],
                               int stage, RowSums& chunk, float (&result)[kDim / 8][4]) {
  const Shared<BFloat16> keys = KeysOf<kDim>(stage);
  Scores scores = {};
  TESSERA_UNROLL
  for (int c = 0; c < kDim / 32; ++c) {
    uint32_t a[2][4];
    if constexpr (kDim > 128) {
      QueryFragment(args, query, c, a);
    } else {
      TESSERA_UNROLL
      for (int i = 0; i < 8; ++i) a[i / 4][i % 4] = q[c][i / 4][i % 4];
    }
    TESSERA_UNROLL
    for (int j = 0; j < kTilePositions / 8; ++j) {
      const Bits<4> k = keys.GetBits<4>((8 * j + Lane() / 4) * kKeyPitch<kDim> + 32 * c +
                                        Lane() % 4 * 8);
      Mma16816(scores[j], a[0], k.word[0], k.word[1]);
      Mma16816(scores[j], a[1], k.word[2], k.word[3]);
    }
  }
  const RowSums tile = SoftmaxTile(args.scale, tile_begin, first, last, scores);
  uint32_t p[kTilePositions / 16][4];
  TESSERA_UNROLL
  for (int step = 0; step < kTilePositions / 16; ++step) ProbabilityFragment(scores, step, p[step]);
  MergeFactors factors[2];
  TESSERA_UNROLL
  for (int h = 0; h < 2; ++h) {
    factors[h] = MergeFactorsOf(chunk.highest[h], tile.highest[h], args.scale);
    chunk.highest[h] = factors[h].highest;
    chunk.sum[h] = Merge(chunk.sum[h], tile.sum[h], factors[h]);
  }
  const Shared<BFloat16> values = ValuesOf<kDim>(stage);
  TESSERA_UNROLL
  for (int d = 0; d < kDim / 16; ++d) {
    float products[2][4] = {};
    MultiplyValues(p, values, kValuePitch<kDim>, d, products);
    TESSERA_UNROLL
    for (int i = 0; i < 2; ++i) {
      TESSERA_UNROLL
      for (int r = 0; r < 4; ++r) {
        result[2 * d + i][r] = Merge(result[2 * d + i][r], products[i][r], factors[r / 2]);
      }
    }
  }
}

// Merges a finished chunk into the total and begins a new one.
template <int kDim>
TESSERA_DEVICE void EndChunk(float scale, const Shared<float>& total_values, bool is_first,
                             RowSums& total, RowSums& chunk, float (&result)[kDim / 8][4]) {
  MergeFactors factors[2];
  TESSERA_UNROLL
  for (int h = 0; h < 2; ++h) {
    factors[h] = MergeFactorsOf(total.highest[h], chunk.highest[h], scale);
    total.highest[h] = factors[h].highest;
    total.sum[h] = Merge(total.sum[h], chunk.sum[h], factors[h]);
  }
  TESSERA_UNROLL
  for (int d = 0; d < kDim / 8; ++d) {
    const int place = (d * kThreads + ThreadIndex()) * 4;
    Bits<4> bits = {};
    if (!is_first) bits = total_values.GetBits<4>(place);
    TESSERA_UNROLL
    for (int r = 0; r < 4; ++r) {
      bits.word[r] = BitsOfFloat(Merge(FloatOfBits(bits.word[r]), result[d][r], factors[r / 2]));
      result[d][r] = 0;
    }
    total_values.SetBits(place, bits);
  }
  chunk = RowSums();
}

template <int kDim>
TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, kDim > 128 ? 1 : 2) void PrefillAttentionKernel(
    PrefillArgs args) {
  const AttentionArgs& base = args.base;
  const PrefillItem item = args.items.Get(BlockX());
  const int kv_head = BlockY();
  const int first_head = base.group_begins.Get(kv_head);
  const int group = base.group_begins.Get(kv_head + 1) - first_head;
  const int num_rows = item.num_tokens * group;
  if (item.first_row >= num_rows) return;  // the whole block
  const int start = base.positions.Get(item.first_token);
  const int table_begin = base.table_begins.Get(base.sequences.Get(item.first_token));

  // This lane's two rows: where they begin in q, and which positions they attend to.
  int64_t query[2];
  int first[2];
  int last[2];
  TESSERA_UNROLL
  for (int h = 0; h < 2; ++h) {
    const int row = item.first_row + 16 * WarpIndex() + Lane() / 4 + 8 * h;
    const int token = row / group;
    const bool exists = row < num_rows;
    query[h] = exists ? ((int64_t{item.first_token} + token) * base.num_q_heads + first_head +
                         row % group) *
                            base.head_dim
                      : -1;
    last[h] = exists ? start + token : -1;
    first[h] = exists ? FirstPosition(base, start + token) : 0;
  }
  const int last_row =
      item.first_row + kPrefillRows < num_rows ? item.first_row + kPrefillRows - 1 : num_rows - 1;
  const int block_last = start + last_row / group;
  const int block_first = FirstPosition(base, start + item.first_row / group);

  uint32_t q[kDim <= 128 ? kDim / 32 : 1][2][4];
  if constexpr (kDim <= 128) {
    TESSERA_UNROLL
    for (int c = 0; c < kDim / 32; ++c) QueryFragment(base, query, c, q[c]);
  }
  const Shared<float> total_values =
      DynamicShared<float>(kStages<kDim> * kStageBytes<kDim>, kTotalBytes<kDim> / 4);
  RowSums total;
  RowSums chunk;
  float result[kDim / 8][4] = {};
  bool is_first_chunk = true;

  const int first_tile = block_first / kTilePositions;
  const int last_tile = block_last / kTilePositions;
  StageTile<kDim>(base, table_begin, kv_head, first_tile * kTilePositions, block_first, block_last,
                  0);
  for (int tile = first_tile; tile <= last_tile; ++tile) {
    const int stage = (tile - first_tile) % kStages<kDim>;
    CpAsyncWait<0>();
    SyncThreads();  // this tile has arrived, and nobody reads the one before
    if (kStages<kDim> > 1 && tile < last_tile) {
      StageTile<kDim>(base, table_begin, kv_head, (tile + 1) * kTilePositions, block_first,
                      block_last, 1 - stage);
    }
    AttendTile<kDim>(base, query, q, tile * kTilePositions, first, last, stage, chunk, result);
    if (tile % kTilesPerChunk == kTilesPerChunk - 1 || tile == last_tile) {
      EndChunk<kDim>(base.scale, total_values, is_first_chunk, total, chunk, result);
      is_first_chunk = false;
    }
    if (kStages<kDim> == 1 && tile < last_tile) {
      SyncThreads();
      StageTile<kDim>(base, table_begin, kv_head, (tile + 1) * kTilePositions, block_first,
                      block_last, 0);
    }
  }

  TESSERA_UNROLL
  for (int d = 0; d < kDim / 8; ++d) {
    const Bits<4> bits = total_values.GetBits<4>((d * kThreads + ThreadIndex()) * 4);
    TESSERA_UNROLL
    for (int h = 0; h < 2; ++h) {
      if (query[h] >= 0) {
        StoreResult(base, query[h], 8 * d + Lane() % 4 * 2, FloatOfBits(bits.word[2 * h]),
                    FloatOfBits(bits.word[2 * h + 1]), total.sum[h]);
      }
    }
  }
}

}  // namespace

int LaunchPrefillAttention(const BFloat16* q, const AttentionHeads& heads, const StepArrays& step,
                           const KvCache& cache, int64_t n, int64_t num_prefill_items,
                           BFloat16* out, Stream stream) {
  if (num_prefill_items == 0) return kLaunched;
  PrefillArgs args;
  args.base = AttentionArgsOf(q, heads, step, cache, n, out);
  args.items = TESSERA_VIEW(step.prefill_items, step.prefill_capacity);
  return VisitHeadDim(heads.head_dim, [&]<int kDim>() {
    return Launch("PrefillAttention", PrefillAttentionKernel<kDim>,
                  {.x = num_prefill_items,
                   .y = heads.num_kv_heads,
                   .threads = kThreads,
                   .shared_bytes = kSharedBytes<kDim>},
                  stream, args);
  });
}

}  // namespace tessera::kernels::cuda
