// x · wᵀ for up to 16 rows of x: reads every weight once, so it is bound by the bytes of w; x stays in
// the L1 cache. One block per 16 outputs; its 8 warps share the columns, each running over one
// segment on the tensor cores (8 columns of an operand hold rows of x; a batch of 1 costs what a
// batch of 8 does, and no more bytes).
//
// In flight per warp: kAhead tiles of weights, 16 to 64 bytes per lane each; loads are issued for all
// of them before the first is used.
#include "kernels/cuda/matmul.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kWarps = kSegments;
constexpr int kThreads = 32 * kWarps;

// Tiles loaded together: about 64 to 128 bytes per lane.
template <DType kType>
constexpr int kAhead = kType == DType::kF32                    ? 1
                       : kIsFloat<kType> || kType == DType::kQ8_0 ? 2
                                                               : 4;

// The lane's operand of block b of a tile: row `token` of x, zeros where there is none.
template <DType kType>
TESSERA_DEVICE Bits<4> LoadOperand(const MatMulArgs& args, int64_t token, int64_t block_col) {
  const int64_t row = token * args.cols;
  const int64_t cols = token < args.n ? args.cols : 0;
  if constexpr (!kInSixteens<kType>) {
    const int64_t col = block_col + OperandColumn<kType>(0);
    return LoadEight(args.x, row + col, cols - col, args.aligned);
  } else {
    Bits<4> bits = {};
    TESSERA_UNROLL
    for (int step = 0; step < 2; ++step) {
      const int64_t col = block_col + OperandColumn<kType>(step);
      if (col >= cols) continue;  // quantized: columns come in blocks of 32
      if (args.aligned) {
        const Bits<2> pairs = args.x.GetBits<2>(row + col);
        bits.word[2 * step] = pairs.word[0];
        bits.word[2 * step + 1] = pairs.word[1];
      } else {
        TESSERA_UNROLL
        for (int i = 0; i < 2; ++i) {
          bits.word[2 * step + i] = args.x.Get(row + col + 2 * i).bits |
                                    uint32_t{args.x.Get(row + col + 2 * i + 1).bits} << 16;
        }
      }
    }
    return bits;
  }
}

template <DType kType, int kColumns>
TESSERA_DEVICE void MultiplyTile(const MatMulArgs& args, const Tile<kType, true>& tile,
                                 int64_t col_tile, float (&sum)[kColumns][4]) {
  TESSERA_UNROLL
  for (int b = 0; b < 2; ++b) {
    Bits<4> x[kColumns];
    TESSERA_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      x[c] = LoadOperand<kType>(args, 8 * c + Lane() / 4, col_tile * 64 + 32 * b);
    }
    MultiplyBlock<kType, kColumns, true>(tile, b, x, sum);
  }
}

template <DType kType, int kColumns>
TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 2) void SmallMatMulKernel(MatMulArgs args) {
  TESSERA_SHARED(float, partial, kWarps * kColumns * 128);
  const int p = ProductOf(args, BlockX());
  const ProductArgs& product = args.products[p];
  const int64_t row_tile = BlockX() - args.begins[p];

  float sum[kColumns][4] = {};
  int c = SegmentBegin(WarpIndex(), product.w.col_tiles);
  const int end = SegmentBegin(WarpIndex() + 1, product.w.col_tiles);
  constexpr int kTiles = kAhead<kType>;
  for (; c + kTiles <= end; c += kTiles) {
    Tile<kType, true> tiles[kTiles];
    TESSERA_UNROLL
    for (int i = 0; i < kTiles; ++i) tiles[i].Load(product.w, row_tile, c + i);
    TESSERA_UNROLL
    for (int i = 0; i < kTiles; ++i) MultiplyTile<kType>(args, tiles[i], c + i, sum);
  }
  for (; c < end; ++c) {
    Tile<kType, true> tile;
    tile.Load(product.w, row_tile, c);
    MultiplyTile<kType>(args, tile, c, sum);
  }

  TESSERA_UNROLL
  for (int i = 0; i < kColumns; ++i) {
    Bits<4> bits;
    TESSERA_UNROLL
    for (int r = 0; r < 4; ++r) bits.word[r] = BitsOfFloat(sum[i][r]);
    partial.SetBits(((WarpIndex() * kColumns + i) * 32 + Lane()) * 4, bits);
  }
  SyncThreads();
  if (ThreadIndex() >= 128 * kColumns) return;
  // Output row r of the tile, row `token` of x; and which lane's element that is.
  const int r = ThreadIndex() % 16;
  const int token = ThreadIndex() / 16;
  const int lane = r % 8 * 4 + token % 8 / 2;
  const int element = (token / 8 * 32 + lane) * 4 + r / 8 * 2 + token % 2;
  float value = 0;
  TESSERA_UNROLL
  for (int w = 0; w < kWarps; ++w) value += partial.Get(w * kColumns * 128 + element);
  const int64_t row = row_tile * 16 + r;
  if (token < args.n && row < product.w.rows) StoreOutput(product, token, row, value);
}

}  // namespace

int LaunchSmallProducts(const ProductRequest* products, int num_products, const BFloat16* x,
                        int64_t n, Stream stream) {
  if (n > kSmallMatMulRows) return kNoSuchKernel;
  return LaunchByType(products, num_products, x, n, 16,
                      [&]<DType kType>(const MatMulArgs& args, int64_t blocks) {
                        const LaunchShape shape = {.x = blocks, .threads = kThreads};
                        if (n <= 8) {
                          return Launch("SmallMatMul", SmallMatMulKernel<kType, 1>, shape, stream,
                                        args);
                        }
                        return Launch("SmallMatMul", SmallMatMulKernel<kType, 2>, shape, stream,
                                      args);
                      });
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
