// What decode and prefill attention share: 16 query rows of one warp against 64 positions on the
// tensor cores, and how partial results are merged. A row is a (token, query head) pair; the 16 rows
// of a warp share one KV head, so each key and value is read once for all of them.
//
// The order of a row's sums is fixed by positions alone: tiles of 64 positions, each summed from
// zero; merged in order within a chunk of kAttentionChunk = 4 tiles; chunks merged in order. Tiles in
// which a row has no position change nothing, bit for bit, so neither the other rows nor the kernel
// matter.
#ifndef TESSERA_KERNELS_CUDA_ATTENTION_CUH_
#define TESSERA_KERNELS_CUDA_ATTENTION_CUH_

#include "kernels/cuda/vectors.cuh"

namespace tessera::kernels::cuda {

inline constexpr int kTilePositions = 64;
inline constexpr int kTilesPerChunk = kAttentionChunk / kTilePositions;
inline constexpr float kNoScore = -__builtin_inff();

// As the kernels see a launch. kDim of the templates below: head_dim rounded up to what there is a
// kernel for; dims from head_dim on are zeros.
struct AttentionArgs {
  View<const BFloat16> q;  // (n, num_q_heads, head_dim)
  View<BFloat16> out;      // alike
  View<const BFloat16> keys;
  View<const BFloat16> values;
  View<const int32_t> group_begins;
  View<const int32_t> positions;
  View<const int32_t> sequences;
  View<const int32_t> table_begins;
  View<const int32_t> tables;
  int num_q_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int block_tokens = 0;
  int sliding_window = 0;
  float scale = 0;  // times log2(e)
  bool aligned = false;  // heads start at 16 bytes
};

inline AttentionArgs AttentionArgsOf(const BFloat16* q, const AttentionHeads& heads,
                                     const StepArrays& step, const KvCache& cache, int64_t n,
                                     BFloat16* out) {
  const int64_t elements = n * heads.num_q_heads * heads.head_dim;
  const int64_t cached =
      cache.num_blocks * cache.num_kv_heads * cache.block_tokens * heads.head_dim;
  const BFloat16* keys = cache.keys;
  const BFloat16* values = cache.values;
  AttentionArgs args;
  args.q = TESSERA_VIEW(q, elements);
  args.out = TESSERA_VIEW(out, elements);
  args.keys = TESSERA_VIEW(keys, cached);
  args.values = TESSERA_VIEW(values, cached);
  args.group_begins = TESSERA_VIEW(heads.group_begins, heads.num_kv_heads + 1);
  args.positions = TESSERA_VIEW(step.positions, step.n_capacity);
  args.sequences = TESSERA_VIEW(step.sequences, step.n_capacity);
  args.table_begins = TESSERA_VIEW(step.table_begins, step.sequences_capacity);
  args.tables = TESSERA_VIEW(step.tables, step.tables_capacity);
  args.num_q_heads = heads.num_q_heads;
  args.num_kv_heads = heads.num_kv_heads;
  args.head_dim = heads.head_dim;
  args.block_tokens = cache.block_tokens;
  args.sliding_window = heads.sliding_window;
  args.scale = heads.scale * 1.44269504088896340736f;
  args.aligned = heads.head_dim % 8 == 0 && IsAligned16(q) && IsAligned16(keys) &&
                 IsAligned16(values) && IsAligned16(out);
  return args;
}

// First position that a query at `position` attends to.
TESSERA_DEVICE int FirstPosition(const AttentionArgs& args, int position) {
  const int first = position - args.sliding_window + 1;
  return args.sliding_window > 0 && first > 0 ? first : 0;
}

// The cache row (of head_dim elements) of a position. table_begin: of its sequence.
TESSERA_DEVICE int CacheRow(const AttentionArgs& args, int table_begin, int kv_head,
                            int position) {
  const int block = args.tables.Get(table_begin + position / args.block_tokens);
  return (block * args.num_kv_heads + kv_head) * args.block_tokens + position % args.block_tokens;
}

// Which cache row each of a tile's positions has: lane l knows those of positions l and l + 32; -1
// for a position outside [first, last].
struct TileRows {
  int row[2];

  TESSERA_DEVICE int Of(int position_in_tile) const {  // a warp collective
    const int low = Shuffle(row[0], position_in_tile % 32);
    const int high = Shuffle(row[1], position_in_tile % 32);
    return position_in_tile < 32 ? low : high;
  }
};
TESSERA_DEVICE TileRows TileRowsOf(const AttentionArgs& args, int table_begin, int kv_head,
                                   int tile_begin, int first, int last) {
  TileRows rows;
  TESSERA_UNROLL
  for (int i = 0; i < 2; ++i) {
    const int position = tile_begin + 32 * i + Lane();
    rows.row[i] = position >= first && position <= last
                      ? CacheRow(args, table_begin, kv_head, position)
                      : -1;
  }
  return rows;
}

// Running result of some positions, for rows lane/4 (index 0) and lane/4 + 8 (index 1).
struct RowSums {
  float highest[2] = {kNoScore, kNoScore};  // score, not yet scaled
  float sum[2] = {};                        // of exp2(scale * (score - highest))
};

// What a running result (highest a) and a further one (highest b) are multiplied with so that they
// can be added.
struct MergeFactors {
  float highest;
  float mine;
  float theirs;
};
TESSERA_DEVICE MergeFactors MergeFactorsOf(float a, float b, float scale) {
  MergeFactors factors;
  factors.highest = a > b ? a : b;
  factors.mine = a == kNoScore ? 0.0f : Exp2(MulRn(a - factors.highest, scale));
  factors.theirs = b == kNoScore ? 0.0f : Exp2(MulRn(b - factors.highest, scale));
  return factors;
}
TESSERA_DEVICE float Merge(float mine, float theirs, const MergeFactors& factors) {
  return FmaRn(theirs, factors.theirs, MulRn(mine, factors.mine));
}

// Scores of 16 rows and 64 positions in the tensor cores' layout: value r of group j is row
// lane/4 + 8 (r / 2), position 8j + 2 (lane % 4) + r % 2.
using Scores = float[kTilePositions / 8][4];

// scores := exp2(scale * (score - its row's highest)), 0 outside [first[h], last[h]]; row sums.
TESSERA_DEVICE RowSums SoftmaxTile(float scale, int tile_begin, const int (&first)[2],
                                   const int (&last)[2], Scores& scores) {
  RowSums sums;
  const int position = tile_begin + Lane() % 4 * 2;
  TESSERA_UNROLL
  for (int j = 0; j < kTilePositions / 8; ++j) {
    TESSERA_UNROLL
    for (int r = 0; r < 4; ++r) {
      const int p = position + 8 * j + r % 2;
      if (p < first[r / 2] || p > last[r / 2]) scores[j][r] = kNoScore;
      if (scores[j][r] > sums.highest[r / 2]) sums.highest[r / 2] = scores[j][r];
    }
  }
  TESSERA_UNROLL
  for (int h = 0; h < 2; ++h) {
    TESSERA_UNROLL
    for (int mask = 1; mask <= 2; mask *= 2) {
      const float other = ShuffleXor(sums.highest[h], mask);
      if (other > sums.highest[h]) sums.highest[h] = other;
    }
  }
  TESSERA_UNROLL
  for (int j = 0; j < kTilePositions / 8; ++j) {
    TESSERA_UNROLL
    for (int r = 0; r < 4; ++r) {
      const float score = scores[j][r];
      scores[j][r] =
          score == kNoScore ? 0.0f : Exp2(MulRn(score - sums.highest[r / 2], scale));
      sums.sum[r / 2] += scores[j][r];
    }
  }
  TESSERA_UNROLL
  for (int h = 0; h < 2; ++h) {
    TESSERA_UNROLL
    for (int mask = 1; mask <= 2; mask *= 2) sums.sum[h] += ShuffleXor(sums.sum[h], mask);
  }
  return sums;
}

// The probabilities of positions 16 step .. + 15 as the left operand of a product.
TESSERA_DEVICE void ProbabilityFragment(const Scores& scores, int step, uint32_t (&a)[4]) {
  a[0] = RoundToBf16x2(scores[2 * step][0], scores[2 * step][1]);
  a[1] = RoundToBf16x2(scores[2 * step][2], scores[2 * step][3]);
  a[2] = RoundToBf16x2(scores[2 * step + 1][0], scores[2 * step + 1][1]);
  a[3] = RoundToBf16x2(scores[2 * step + 1][2], scores[2 * step + 1][3]);
}

// products[i] = probabilities · values for dims [16 dim_pair + 8 i, + 8). values: the tile in shared
// memory, `pitch` elements per position.
TESSERA_DEVICE void MultiplyValues(const uint32_t (&p)[kTilePositions / 16][4],
                                   const Shared<BFloat16>& values, int pitch, int dim_pair,
                                   float (&products)[2][4]) {
  const int lane = Lane();
  TESSERA_UNROLL
  for (int step = 0; step < kTilePositions / 16; ++step) {
    uint32_t v[4];
    const int position = 16 * step + lane % 16;
    LoadMatrixTransposed(values, position * pitch + 16 * dim_pair + lane / 16 * 8, v);
    Mma16816(products[0], p[step], v[0], v[1]);
    Mma16816(products[1], p[step], v[2], v[3]);
  }
}

// Query rows as left operands: for each 32 dims two steps, whose dims lane t = lane % 4 has are
// 8t .. 8t + 3 and 8t + 4 .. 8t + 7, as for weights (packed_weights.h); keys match.
// begin[h]: where row lane/4 + 8h begins in q, -1 for none.
TESSERA_DEVICE void QueryFragment(const AttentionArgs& args, const int64_t (&begin)[2], int chunk,
                                  uint32_t (&a)[2][4]) {
  const int dim = 32 * chunk + Lane() % 4 * 8;
  TESSERA_UNROLL
  for (int h = 0; h < 2; ++h) {
    const int valid = begin[h] < 0 ? 0 : args.head_dim - dim;
    const Bits<4> bits = LoadEight(args.q, begin[h] + dim, valid, args.aligned);
    a[0][h] = bits.word[0];
    a[0][h + 2] = bits.word[1];
    a[1][h] = bits.word[2];
    a[1][h + 2] = bits.word[3];
  }
}

// Eight dims of a cache row, zeros for row -1 and behind the head.
TESSERA_DEVICE Bits<4> LoadCache(const AttentionArgs& args, const View<const BFloat16>& cache,
                                 int row, int dim) {
  const int valid = row < 0 ? 0 : args.head_dim - dim;
  return LoadEight(cache, int64_t{row} * args.head_dim + dim, valid, args.aligned);
}

// Copies what LoadCache reads to shared memory, asynchronously where it can be.
TESSERA_DEVICE void StageCache(const AttentionArgs& args, const View<const BFloat16>& cache,
                               int row, int dim, const Shared<BFloat16>& to, int i) {
  if (args.aligned) {
    CpAsync16(to, i, cache, int64_t{row} * args.head_dim + dim, row >= 0 && dim < args.head_dim);
  } else {
    to.SetBits(i, LoadCache(args, cache, row, dim));
  }
}

// out[begin + dim ...] = value / sum for two neighbouring dims.
TESSERA_DEVICE void StoreResult(const AttentionArgs& args, int64_t begin, int dim, float low,
                                float high, float sum) {
  const float inverse = 1.0f / sum;
  // + 0: whether a sum of zero is negative depends on how many tiles were merged into it.
  const uint32_t pair =
      RoundToBf16x2(MulRn(low, inverse) + 0.0f, MulRn(high, inverse) + 0.0f);
  if (args.aligned && dim + 2 <= args.head_dim) {
    args.out.SetBits(begin + dim, Bits<1>{{pair}});
    return;
  }
  if (dim < args.head_dim) args.out.Set(begin + dim, {static_cast<uint16_t>(pair)});
  if (dim + 1 < args.head_dim) args.out.Set(begin + dim + 1, {static_cast<uint16_t>(pair >> 16)});
}

// launch.template operator()<kDim>() for the smallest kernel that takes the heads; its int.
template <typename LaunchOne>
int VisitHeadDim(int head_dim, LaunchOne launch) {
  if (head_dim <= 64) return launch.template operator()<64>();
  if (head_dim <= 128) return launch.template operator()<128>();
  if (head_dim <= kMaxHeadDim) return launch.template operator()<256>();
  return kNoSuchKernel;
}

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_ATTENTION_CUH_
