// x · wᵀ for up to 64 rows of x: reads every weight once, so at small n it is bound by the bytes of w;
// x comes from the caches. One block per 16 outputs (32 from 17 rows of x on, so that x is read half
// as often; and as many blocks beside it as there are 32 rows of x, which find the weights in the L2
// cache); its 8 warps share the columns, each running over one segment on the tensor cores. An
// operand's 8 columns hold rows of x: a batch of 1 costs what a batch of 8 does, and no more bytes.
// From about 16 rows on it is bound by the L2 cache: outputs / 32 · n · cols · 2 bytes of x.
//
// In flight per warp: kAhead tiles of weights, 16 to 64 bytes per lane each, asked for while the kAhead
// before them are multiplied. x must start at 16 bytes and have rows of a multiple of 8; the tiled
// kernel takes what does not, to the same bits.
#include "kernels/cuda/matmul.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kWarps = kSegments;
constexpr int kThreads = 32 * kWarps;

// Tiles asked for together: as many as the registers hold twice.
template <DType kType, int kRowTiles, int kColumns>
constexpr int kAhead = kType == DType::kF32 || kRowTiles > 1                                ? 1
                       : (kIsFloat<kType> && !kIsRowScaled<kType>) || kType == DType::kQ8_0 ? 2
                       : kColumns > 1                             ? (kHasMinimum<kType> ? 1 : 2)
                       : kHasMinimum<kType> || kInSixteens<kType> ? 2
                                                                  : 3;

// The lane's operand of block b of the tile that begins at column `tile_col`. row: where the lane's
// row of x begins. kTail: columns from args.cols on are zeros, as the weights there are.
template <DType kType, bool kTail>
TESSERA_DEVICE Bits<4> LoadOperand(const MatMulArgs& args, int64_t row, int64_t tile_col, int b) {
  Bits<4> bits = {};
  if constexpr (!kInSixteens<kType>) {
    const int64_t col = tile_col + OperandColumn<kType>(b, 0);
    if (!kTail || col < args.cols) bits = args.x.GetBits<4>(row + col);
  } else {
    TESSERA_UNROLL
    for (int step = 0; step < 2; ++step) {
      const int64_t col = tile_col + OperandColumn<kType>(b, step);
      if (!kTail || col < args.cols) {
        const Bits<2> pairs = args.x.GetBits<2>(row + col);
        bits.word[2 * step] = pairs.word[0];
        bits.word[2 * step + 1] = pairs.word[1];
      }
    }
  }
  return bits;
}

// kRowTiles tiles of 16 outputs, the same columns.
template <DType kType, int kRowTiles>
struct TileColumn {
  Tile<kType, true> tiles[kRowTiles];

  // Behind the matrix' last row tile stands that one again; what it gives is not stored.
  TESSERA_DEVICE void Load(const WeightPlanes& w, int64_t row_tile, int64_t col_tile) {
    TESSERA_UNROLL
    for (int i = 0; i < kRowTiles; ++i) {
      tiles[i].Load(w, row_tile + i < w.row_tiles ? row_tile + i : w.row_tiles - 1, col_tile);
    }
  }
};

template <DType kType, bool kTail, int kRowTiles, int kColumns>
TESSERA_DEVICE void Multiply(const MatMulArgs& args, const int64_t (&x_rows)[kColumns],
                             const TileColumn<kType, kRowTiles>& column, int64_t col_tile,
                             float (&sum)[kRowTiles][kColumns][4]) {
  TESSERA_UNROLL
  for (int b = 0; b < 2; ++b) {
    Bits<4> x[kColumns];
    TESSERA_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      x[c] = LoadOperand<kType, kTail>(args, x_rows[c], col_tile * 64, b);
    }
    TESSERA_UNROLL
    for (int i = 0; i < kRowTiles; ++i) {
      MultiplyBlock<kType, kColumns, true>(column.tiles[i], b, x, sum[i]);
    }
  }
}

// Sums of every warp, in the dynamic shared memory.
template <int kRowTiles, int kColumns>
constexpr int kSumsPerWarp = kRowTiles * kColumns * 128;

template <DType kType, int kRowTiles, int kColumns>
TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, kColumns > 2 ? 1 : 2) void SmallMatMulKernel(
    MatMulArgs args) {
  constexpr int kSums = kSumsPerWarp<kRowTiles, kColumns>;
  const int p = ProductOf(args, BlockX());
  const ProductArgs& product = args.products[p];
  const int64_t row_tile = (BlockX() - args.begins[p]) * kRowTiles;

  // Where the lane's rows of x begin. Behind the last stands that one again; its sums are not stored.
  int64_t x_rows[kColumns];
  TESSERA_UNROLL
  for (int i = 0; i < kColumns; ++i) {
    const int64_t token = 8 * (int64_t{BlockY()} * kColumns + i) + Lane() / 4;
    x_rows[i] = (token < args.n ? token : args.n - 1) * args.cols;
  }

  float sum[kRowTiles][kColumns][4] = {};
  int c = SegmentBegin(WarpIndex(), product.w.col_tiles);
  const int end = SegmentBegin(WarpIndex() + 1, product.w.col_tiles);
  const int whole = static_cast<int>(args.cols / 64);  // tiles without padding
  const int main_end = end < whole ? end : whole;
  constexpr int kTiles = kAhead<kType, kRowTiles, kColumns>;
  TileColumn<kType, kRowTiles> columns[kTiles];
  bool loaded = c + kTiles <= main_end;
  if (loaded) {
    TESSERA_UNROLL
    for (int i = 0; i < kTiles; ++i) columns[i].Load(product.w, row_tile, c + i);
  }
  while (loaded) {
    TileColumn<kType, kRowTiles> next[kTiles];
    loaded = c + 2 * kTiles <= main_end;
    if (loaded) {
      TESSERA_UNROLL
      for (int i = 0; i < kTiles; ++i) next[i].Load(product.w, row_tile, c + kTiles + i);
    }
    TESSERA_UNROLL
    for (int i = 0; i < kTiles; ++i) Multiply<kType, false>(args, x_rows, columns[i], c + i, sum);
    TESSERA_UNROLL
    for (int i = 0; i < kTiles; ++i) columns[i] = next[i];
    c += kTiles;
  }
  for (; c < end; ++c) {
    TileColumn<kType, kRowTiles> column;
    column.Load(product.w, row_tile, c);
    Multiply<kType, true>(args, x_rows, column, c, sum);
  }

  const Shared<float> sums = DynamicShared<float>(0, kWarps * kSums);
  TESSERA_UNROLL
  for (int i = 0; i < kRowTiles * kColumns; ++i) {
    Bits<4> bits;
    TESSERA_UNROLL
    for (int r = 0; r < 4; ++r) bits.word[r] = BitsOfFloat(sum[i / kColumns][i % kColumns][r]);
    sums.SetBits(WarpIndex() * kSums + (i * 32 + Lane()) * 4, bits);
  }
  SyncThreads();
  for (int i = ThreadIndex(); i < kSums; i += kThreads) {
    // Output r of the block, row `token` of the block's x; and which lane's element that is.
    const int r = i % (16 * kRowTiles);
    const int token = i / (16 * kRowTiles);
    const int lane = r % 8 * 4 + token % 8 / 2;
    const int element = ((r / 16 * kColumns + token / 8) * 32 + lane) * 4 + r % 16 / 8 * 2 +
                        token % 2;
    float value = 0;
    TESSERA_UNROLL
    for (int w = 0; w < kWarps; ++w) value += sums.Get(w * kSums + element);
    const int64_t row = row_tile * 16 + r;
    const int64_t x_row = int64_t{BlockY()} * 8 * kColumns + token;
    if (x_row < args.n && row < product.w.rows) StoreOutput<kType>(product, x_row, row, value);
  }
}

template <int kRowTiles, int kColumns>
int LaunchFor(const ProductRequest* products, int num_products, const BFloat16* x, int64_t n,
              Stream stream) {
  return LaunchByType(
      products, num_products, x, n, 16 * kRowTiles,
      [n, stream]<DType kType>(const MatMulArgs& args, int64_t blocks) {
        return Launch("SmallMatMul", SmallMatMulKernel<kType, kRowTiles, kColumns>,
                      {.x = blocks,
                       .y = CeilDiv(n, 8 * kColumns),
                       .threads = kThreads,
                       .shared_bytes = kWarps * kSumsPerWarp<kRowTiles, kColumns> * 4},
                      stream, args);
      });
}

}  // namespace

int LaunchSmallProducts(const ProductRequest* products, int num_products, const BFloat16* x,
                        int64_t n, Stream stream) {
  const bool aligned = num_products > 0 && products[0].w.cols % 8 == 0 && IsAligned16(x);
  if (!aligned && n <= kSmallMatMulRows) {
    return LaunchTiledProducts(products, num_products, x, n, stream);
  }
  if (n <= 8) return LaunchFor<1, 1>(products, num_products, x, n, stream);
  if (n <= 16) return LaunchFor<1, 2>(products, num_products, x, n, stream);
  if (n <= kSmallMatMulRows) return LaunchFor<2, 4>(products, num_products, x, n, stream);
  return kNoSuchKernel;
}

int LaunchSmallMatMul(const MatMulProduct* products, int num_products, const BFloat16* x,
                      int64_t n, Stream stream) {
  if (num_products < 1 || num_products > kMaxProducts) return kNoSuchKernel;
  ProductRequest requests[kMaxProducts];
  for (int p = 0; p < num_products; ++p) {
    requests[p] = {.w = products[p].w, .bias = products[p].bias, .out = products[p].out};
  }
  return LaunchSmallProducts(requests, num_products, x, n, stream);
}

int LaunchLogits(const WeightMatrix& w, const BFloat16* x, int64_t n, float* out, Stream stream) {
  const ProductRequest request = {.w = w, .wide_out = out};
  if (n <= kSmallMatMulRows) return LaunchSmallProducts(&request, 1, x, n, stream);
  return LaunchTiledProducts(&request, 1, x, n, stream);
}

}  // namespace tessera::kernels::cuda
