// x · wᵀ for any number of rows of x on the tensor cores, without cuBLASLt: what runs where that
// library is not, and where bits must not depend on the batch. One block per 128 outputs × 64 rows
// of x: 8 warps of 16 outputs, the tile of x shared by all and loaded one tile ahead; weights go from
// memory to registers, decoded once for 64 rows. Bound by the tensor cores (mma.sync, not wgmma:
// about 0.6 of an H100's dense rate at best); 2 · outputs · cols · n operations.
#include "kernels/cuda/matmul.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kRows = 16 * kWarps;  // outputs per block
constexpr int kTokens = 64;         // rows of x per block
constexpr int kColumns = kTokens / 8;
constexpr int kPitch = 96;  // elements per row of x's tile: 64 and a gap against bank conflicts
constexpr int kStageElements = kTokens * kPitch;

// Columns [64 col_tile, +64) of the block's rows of x, zeros where there are none.
TESSERA_DEVICE void LoadInput(const MatMulArgs& args, int64_t first_token, int64_t col_tile,
                              const Shared<BFloat16>& stage) {
  TESSERA_UNROLL
  for (int i = 0; i < kTokens * 8 / kThreads; ++i) {
    const int piece = i * kThreads + ThreadIndex();
    const int row = piece / 8;
    const int64_t token = first_token + row;
    const int64_t col = col_tile * 64 + piece % 8 * 8;
    const int64_t valid = token < args.n ? args.cols - col : 0;
    const int to = row * kPitch + piece % 8 * 8;
    if (args.aligned) {  // then cols is a multiple of 8
      CpAsync16(stage, to, args.x, token * args.cols + col, valid > 0);
    } else {
      stage.SetBits(to, LoadEight(args.x, token * args.cols + col, valid, false));
    }
  }
  CpAsyncCommit();
}

template <DType kType>
TESSERA_DEVICE Bits<4> SharedOperand(const Shared<BFloat16>& stage, int row, int b) {
  const int begin = row * kPitch;
  if constexpr (!kInSixteens<kType>) {
    return stage.GetBits<4>(begin + OperandColumn<kType>(b, 0));
  } else {
    const Bits<2> low = stage.GetBits<2>(begin + OperandColumn<kType>(b, 0));
    const Bits<2> high = stage.GetBits<2>(begin + OperandColumn<kType>(b, 1));
    return {{low.word[0], low.word[1], high.word[0], high.word[1]}};
  }
}

template <DType kType>
TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 1) void TiledMatMulKernel(MatMulArgs args) {
  const int p = ProductOf(args, BlockX());
  const ProductArgs& product = args.products[p];
  const int64_t row_tile = (BlockX() - args.begins[p]) * kWarps + WarpIndex();
  const bool has_rows = row_tile < product.w.row_tiles;  // the same in the whole warp
  const int64_t first_token = int64_t{BlockY()} * kTokens;
  const int col_tiles = static_cast<int>(product.w.col_tiles);

  float total[kColumns][4] = {};
  float sum[kColumns][4] = {};
  int segment = 0;
  LoadInput(args, first_token, 0, DynamicShared<BFloat16>(0, kStageElements));
  for (int c = 0; c < col_tiles; ++c) {
    const Shared<BFloat16> stage =
        DynamicShared<BFloat16>(c % 2 * kStageElements * 2, kStageElements);
    Tile<kType, false> tile;
    if (has_rows) tile.Load(product.w, row_tile, c);
    CpAsyncWait<0>();
    SyncThreads();  // this tile of x has arrived, and nobody reads the one before
    if (c + 1 < col_tiles) {
      LoadInput(args, first_token, c + 1,
                DynamicShared<BFloat16>((c + 1) % 2 * kStageElements * 2, kStageElements));
    }
    if (!has_rows) continue;
    while (SegmentBegin(segment + 1, col_tiles) <= c) {  // a segment ends (it may be empty)
      ++segment;
      TESSERA_UNROLL
      for (int i = 0; i < kColumns; ++i) {
        TESSERA_UNROLL
        for (int r = 0; r < 4; ++r) total[i][r] += sum[i][r], sum[i][r] = 0;
      }
    }
    TESSERA_UNROLL
    for (int b = 0; b < 2; ++b) {
      Bits<4> x[kColumns];
      TESSERA_UNROLL
      for (int i = 0; i < kColumns; ++i) {
        x[i] = SharedOperand<kType>(stage, 8 * i + Lane() / 4, b);
      }
      MultiplyBlock<kType, kColumns, false>(tile, b, x, sum);
    }
  }
  if (!has_rows) return;
  TESSERA_UNROLL
  for (int i = 0; i < kColumns; ++i) {
    TESSERA_UNROLL
    for (int r = 0; r < 4; ++r) {
      const int64_t row = row_tile * 16 + Lane() / 4 + r / 2 * 8;
      const int64_t token = first_token + 8 * i + Lane() % 4 * 2 + r % 2;
      if (row < product.w.rows && token < args.n) {
        StoreOutput<kType>(product, token, row, total[i][r] + sum[i][r]);
      }
    }
  }
}

}  // namespace

int LaunchTiledProducts(const ProductRequest* products, int num_products, const BFloat16* x,
                        int64_t n, Stream stream) {
  return LaunchByType(products, num_products, x, n, kRows,
                      [&]<DType kType>(const MatMulArgs& args, int64_t blocks) {
                        const LaunchShape shape = {.x = blocks,
                                                   .y = CeilDiv(n, kTokens),
                                                   .threads = kThreads,
                                                   .shared_bytes = 2 * 2 * kStageElements};
                        return Launch("TiledMatMul", TiledMatMulKernel<kType>, shape, stream,
                                      args);
                      });
}

int LaunchTiledMatMul(const MatMulProduct* products, int num_products, const BFloat16* x,
                      int64_t n, Stream stream) {
  if (num_products < 1 || num_products > kMaxProducts) return kNoSuchKernel;
  ProductRequest requests[kMaxProducts];
  for (int p = 0; p < num_products; ++p) {
    requests[p] = {.w = products[p].w, .bias = products[p].bias, .out = products[p].out};
  }
  return LaunchTiledProducts(requests, num_products, x, n, stream);
}

}  // namespace tessera::kernels::cuda
