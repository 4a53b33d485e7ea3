// Attention of single tokens: split over the context in chunks of 256 positions, one block per
// (token, chunk, KV head), a warp per 64 positions; then a second kernel merges each token's chunks.
// All query heads of a KV head (16 at a time) are rows of one tensor-core operand, so each key and
// value is read from memory once: bound by 4 bytes · head_dim · num_kv_heads per position.
//
// In flight: a warp asks for its whole tile of values (64 · head_dim · 2 bytes, asynchronously to
// shared memory) before it multiplies keys, which go straight to registers.
#include "kernels/cuda/attention.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kWarps = kTilesPerChunk;
constexpr int kThreads = 32 * kWarps;
constexpr int kRows = 16;

// Dynamic shared memory per warp: its tile of values, later its sums (kRows, kDim) in float32.
template <int kDim>
constexpr int kPitch = kDim + 8;
template <int kDim>
constexpr int kWarpBytes = kTilePositions * kPitch<kDim> * 2;

struct DecodeArgs {
  AttentionArgs base;
  View<const DecodeItem> items;
  View<const int32_t> begins;     // (n + 1) of the items by token
  View<const int32_t> num_items;  // (1)
  View<float> partial;            // (items, num_q_heads, head_dim): sums of a chunk
  View<float> partial_sums;       // (items, num_q_heads, 2): highest score, sum
};

// One warp's tile: scores, softmax, product with the values, left in `result` (2 per 16 dims).
template <int kDim>
TESSERA_DEVICE RowSums AttendTile(const AttentionArgs& args, const int64_t (&query)[2],
                                  const TileRows& rows, int tile_begin, int first, int last,
                                  const Shared<BFloat16>& values, float (&result)[kDim / 8][4]) {
  constexpr int kPieces = kDim / 8;  // per position
  TESSERA_UNROLL
  for (int i = 0; i < kTilePositions * kPieces / 32; ++i) {
    const int piece = 32 * i + Lane();
    const int position = piece / kPieces;
    const int dim = piece % kPieces * 8;
    StageCache(args, args.values, rows.Of(position), dim, values, position * kPitch<kDim> + dim);
  }
  CpAsyncCommit();

  Scores scores = {};
  uint32_t q[kDim / 32][2][4];
  TESSERA_UNROLL
  for (int c = 0; c < kDim / 32; ++c) QueryFragment(args, query, c, q[c]);
  TESSERA_UNROLL
  for (int j = 0; j < kTilePositions / 8; ++j) {
    const int row = rows.Of(8 * j + Lane() / 4);
    TESSERA_UNROLL
    for (int c = 0; c < kDim / 32; ++c) {
      const Bits<4> k = LoadCache(args, args.keys, row, 32 * c + Lane() % 4 * 8);
      Mma16816(scores[j], q[c][0], k.word[0], k.word[1]);
      Mma16816(scores[j], q[c][1], k.word[2], k.word[3]);
    }
  }
  const int firsts[2] = {first, first};
  const int lasts[2] = {last, last};
  const RowSums sums = SoftmaxTile(args.scale, tile_begin, firsts, lasts, scores);
  uint32_t p[kTilePositions / 16][4];
  TESSERA_UNROLL
  for (int step = 0; step < kTilePositions / 16; ++step) ProbabilityFragment(scores, step, p[step]);

  CpAsyncWait<0>();
  SyncWarp();
  TESSERA_UNROLL
  for (int d = 0; d < kDim / 16; ++d) {
    float products[2][4] = {};
    MultiplyValues(p, values, kPitch<kDim>, d, products);
    TESSERA_UNROLL
    for (int r = 0; r < 4; ++r) {
      result[2 * d][r] = products[0][r];
      result[2 * d + 1][r] = products[1][r];
    }
  }
  SyncWarp();  // before the sums overwrite the values
  return sums;
}

template <int kDim>
TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, kDim > 128 ? 1 : 3) void DecodeAttentionKernel(
    DecodeArgs args) {
  TESSERA_SHARED(float, highest, kWarps * kRows);
  TESSERA_SHARED(float, sum, kWarps * kRows);
  const AttentionArgs& base = args.base;
  const int kv_head = BlockY();
  const int first_head = base.group_begins.Get(kv_head) + kRows * BlockZ();
  const int group_end = base.group_begins.Get(kv_head + 1);
  const int heads = group_end - first_head < kRows ? group_end - first_head : kRows;
  if (heads <= 0) return;  // the whole block
  const int num_items = args.num_items.Get(0);
  const int warp = WarpIndex();
  const int lane = Lane();

  for (int item = BlockX(); item < num_items; item += GridX()) {
    const int token = args.items.Get(item).token;
    const int chunk = args.items.Get(item).chunk;
    const int position = base.positions.Get(token);
    const int first = FirstPosition(base, position);
    const int tile_begin = chunk * kAttentionChunk + warp * kTilePositions;
    const int64_t q_row = int64_t{token} * base.num_q_heads + first_head;

    RowSums sums;
    if (tile_begin <= position && tile_begin + kTilePositions > first) {  // the whole warp
      const int table_begin = base.table_begins.Get(base.sequences.Get(token));
      const TileRows rows =
          TileRowsOf(base, table_begin, kv_head, tile_begin, first, position);
      const int g = lane / 4;
      const int64_t query[2] = {g < heads ? (q_row + g) * base.head_dim : -1,
                                g + 8 < heads ? (q_row + g + 8) * base.head_dim : -1};
      const Shared<BFloat16> values = DynamicShared<BFloat16>(
          warp * kWarpBytes<kDim>, kTilePositions * kPitch<kDim>);
      float result[kDim / 8][4];
      sums = AttendTile<kDim>(base, query, rows, tile_begin, first, position, values, result);
      const Shared<float> tile_sums = DynamicShared<float>(warp * kWarpBytes<kDim>, kRows * kDim);
      TESSERA_UNROLL
      for (int d = 0; d < kDim / 8; ++d) {
        TESSERA_UNROLL
        for (int h = 0; h < 2; ++h) {
          tile_sums.SetBits((g + 8 * h) * kDim + 8 * d + lane % 4 * 2,
                            Bits<2>{{BitsOfFloat(result[d][2 * h]),
                                     BitsOfFloat(result[d][2 * h + 1])}});
        }
      }
    }
    if (lane % 4 == 0) {
      TESSERA_UNROLL
      for (int h = 0; h < 2; ++h) {
        highest.Set(warp * kRows + lane / 4 + 8 * h, sums.highest[h]);
        sum.Set(warp * kRows + lane / 4 + 8 * h, sums.sum[h]);
      }
    }
    SyncThreads();

    // Pairs of dims; neighbouring threads have neighbouring pairs.
    const bool is_only = args.begins.Get(token + 1) - args.begins.Get(token) == 1;
    for (int i = ThreadIndex(); i < heads * (kDim / 2); i += kThreads) {
      const int row = i / (kDim / 2);
      const int dim = i % (kDim / 2) * 2;
      if (dim >= base.head_dim) continue;
      float running_highest = kNoScore;
      float running_sum = 0;
      float low = 0;
      float high = 0;
      TESSERA_UNROLL
      for (int w = 0; w < kWarps; ++w) {
        const float tile_highest = highest.Get(w * kRows + row);
        const MergeFactors factors = MergeFactorsOf(running_highest, tile_highest, base.scale);
        running_highest = factors.highest;
        running_sum = Merge(running_sum, sum.Get(w * kRows + row), factors);
        Bits<2> pair = {};
        if (tile_highest != kNoScore) {  // else its sums may not have been written
          const Shared<float> tile_sums =
              DynamicShared<float>(w * kWarpBytes<kDim>, kRows * kDim);
          pair = tile_sums.GetBits<2>(row * kDim + dim);
        }
        low = Merge(low, FloatOfBits(pair.word[0]), factors);
        high = Merge(high, FloatOfBits(pair.word[1]), factors);
      }
      if (is_only) {
        const MergeFactors factors = MergeFactorsOf(kNoScore, running_highest, base.scale);
        StoreResult(base, (q_row + row) * base.head_dim, dim, Merge(0, low, factors),
                    Merge(0, high, factors), Merge(0, running_sum, factors));
        continue;
      }
      const int64_t to = int64_t{item} * base.num_q_heads + first_head + row;
      args.partial.Set(to * base.head_dim + dim, low);
      if (dim + 1 < base.head_dim) args.partial.Set(to * base.head_dim + dim + 1, high);
      if (dim == 0) {
        args.partial_sums.Set(to * 2, running_highest);
        args.partial_sums.Set(to * 2 + 1, running_sum);
      }
    }
    SyncThreads();  // before the next item's tiles
  }
}

// Merges the chunks of one token and head. Reads (head_dim + 2) · 4 bytes per chunk.
constexpr int kMergeThreads = 64;

TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kMergeThreads, 16) void MergeChunksKernel(DecodeArgs args) {
  const AttentionArgs& base = args.base;
  const int token = BlockX();
  const int head = BlockY();
  const int begin = args.begins.Get(token);
  const int end = args.begins.Get(token + 1);
  const int64_t to = (int64_t{token} * base.num_q_heads + head) * base.head_dim;
  if (begin == end) {
    if (base.positions.Get(token) >= 0) return;  // a prefill token
    for (int d = ThreadIndex(); d < base.head_dim; d += kMergeThreads) base.out.Set(to + d, {0});
    return;
  }
  if (end - begin == 1) return;  // already written
  for (int dim = 2 * ThreadIndex(); dim < base.head_dim; dim += 2 * kMergeThreads) {
    float highest = kNoScore;
    float sum = 0;
    float low = 0;
    float high = 0;
    for (int item = begin; item < end; ++item) {
      const int64_t from = int64_t{item} * base.num_q_heads + head;
      const MergeFactors factors =
          MergeFactorsOf(highest, args.partial_sums.Get(from * 2), base.scale);
      highest = factors.highest;
      sum = Merge(sum, args.partial_sums.Get(from * 2 + 1), factors);
      low = Merge(low, args.partial.Get(from * base.head_dim + dim), factors);
      if (dim + 1 < base.head_dim) {
        high = Merge(high, args.partial.Get(from * base.head_dim + dim + 1), factors);
      }
    }
    StoreResult(base, to, dim, low, high, sum);
  }
}

}  // namespace

size_t DecodeScratchBytes(const AttentionHeads& heads, int64_t decode_items) {
  return static_cast<size_t>(decode_items) * heads.num_q_heads * (heads.head_dim + 2) *
         sizeof(float);
}

int LaunchDecodeAttention(const BFloat16* q, const AttentionHeads& heads, const StepArrays& step,
                          const KvCache& cache, int64_t n, int64_t grid_items, std::byte* scratch,
                          size_t scratch_bytes, BFloat16* out, Stream stream) {
  if (n == 0) return kLaunched;
  if (scratch_bytes < DecodeScratchBytes(heads, step.decode_capacity)) return kNoSuchKernel;
  const int64_t results = step.decode_capacity * heads.num_q_heads;
  float* partial = reinterpret_cast<float*>(scratch);
  float* partial_sums = partial + results * heads.head_dim;
  DecodeArgs args;
  args.base = AttentionArgsOf(q, heads, step, cache, n, out);
  args.items = TESSERA_VIEW(step.decode_items, step.decode_capacity);
  args.begins = TESSERA_VIEW(step.decode_begins, step.n_capacity + 1);
  args.num_items = TESSERA_VIEW(step.num_decode_items, 1);
  args.partial = TESSERA_VIEW(partial, results * heads.head_dim);
  args.partial_sums = TESSERA_VIEW(partial_sums, results * 2);
  if (grid_items > 0) {
    const int error = VisitHeadDim(heads.head_dim, [&]<int kDim>() {
      return Launch("DecodeAttention", DecodeAttentionKernel<kDim>,
                    {.x = grid_items,
                     .y = heads.num_kv_heads,
                     .z = CeilDiv(heads.largest_group, kRows),
                     .threads = kThreads,
                     .shared_bytes = kWarps * kWarpBytes<kDim>},
                    stream, args);
    });
    if (error != kLaunched) return error;
  }
  return Launch("MergeChunks", MergeChunksKernel,
                {.x = n, .y = heads.num_q_heads, .threads = kMergeThreads}, stream, args);
}

}  // namespace tessera::kernels::cuda
