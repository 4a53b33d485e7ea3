// What the two product kernels share, above all the order of their sums, so that an output's bits do
// not depend on which of them computed it: columns are cut into kSegments runs of tiles; a run's
// sums start at zero and take its tiles in order (weight_tiles.cuh), and the runs are added in order.
#ifndef TESSERA_KERNELS_CUDA_MATMUL_CUH_
#define TESSERA_KERNELS_CUDA_MATMUL_CUH_

#include "kernels/cuda/weight_tiles.cuh"

namespace tessera::kernels::cuda {

inline constexpr int kSegments = 8;

// Tiles [SegmentBegin(s), SegmentBegin(s + 1)) are segment s.
TESSERA_DEVICE int SegmentBegin(int segment, int64_t col_tiles) {
  return static_cast<int>(segment * col_tiles / kSegments);
}

struct ProductArgs {
  WeightPlanes w;
  View<const float> bias;  // null: none
  View<BFloat16> out;      // (n, w.rows); null: wide_out
  View<float> wide_out;
};

// Products of one weight type on the same input. Block x works on row tiles of one product: those of
// product p begin at tile begins[p].
struct MatMulArgs {
  ProductArgs products[kMaxProducts];
  int64_t begins[kMaxProducts] = {};
  int num_products = 0;
  View<const BFloat16> x;  // (n, cols)
  int64_t cols = 0;
  int64_t n = 0;
  bool aligned = false;  // every row of x starts at 16 bytes
};

template <DType kType>
TESSERA_DEVICE void StoreOutput(const ProductArgs& product, int64_t token, int64_t row,
                                float value) {
  if constexpr (kIsRowScaled<kType>) value *= product.w.row_scale.Get(row);
  if (!product.bias.IsNull()) value += product.bias.Get(row);
  const int64_t i = token * product.w.rows + row;
  if (product.wide_out.IsNull()) {
    product.out.Set(i, FloatToBf16(value));
  } else {
    product.wide_out.Set(i, value);
  }
}

// A product's host description. Exactly one of out and wide_out.
struct ProductRequest {
  WeightMatrix w;
  const float* bias = nullptr;
  BFloat16* out = nullptr;
  float* wide_out = nullptr;
};

inline ProductArgs ProductArgsOf(const ProductRequest& request, int64_t n) {
  const int64_t outputs = n * request.w.rows;
  const float* bias = request.bias;
  BFloat16* out = request.out;
  float* wide_out = request.wide_out;
  ProductArgs args;
  args.w = PlanesOf(request.w);
  args.bias = TESSERA_VIEW(bias, request.w.rows);
  args.out = TESSERA_VIEW(out, outputs);
  args.wide_out = TESSERA_VIEW(wide_out, outputs);
  return args;
}

// Launches the products type by type: `launch.template operator()<kType>(args, row_tiles)` once per
// type among them. rows_per_block: of a launch's block, a multiple of 16.
template <typename LaunchOne>
int LaunchByType(const ProductRequest* products, int num_products, const BFloat16* x, int64_t n,
                 int64_t rows_per_block, LaunchOne launch) {
  if (n == 0) return kLaunched;
  if (num_products < 1 || num_products > kMaxProducts) return kNoSuchKernel;
  bool done[kMaxProducts] = {};
  for (int first = 0; first < num_products; ++first) {
    if (done[first]) continue;
    const DType dtype = products[first].w.dtype;
    MatMulArgs args;
    args.cols = products[first].w.cols;
    args.n = n;
    args.x = TESSERA_VIEW(x, n * args.cols);
    args.aligned = args.cols % 8 == 0 && IsAligned16(x);
    int64_t blocks = 0;
    for (int p = first; p < num_products; ++p) {
      if (done[p] || products[p].w.dtype != dtype) continue;
      done[p] = true;
      args.begins[args.num_products] = blocks;
      args.products[args.num_products++] = ProductArgsOf(products[p], n);
      blocks += CeilDiv(products[p].w.rows, rows_per_block);
    }
    const int error = VisitWeightType(
        dtype, [&]<DType kType>() { return launch.template operator()<kType>(args, blocks); });
    if (error != kLaunched) return error;
  }
  return kLaunched;
}

// Which product block `block` works on.
TESSERA_DEVICE int ProductOf(const MatMulArgs& args, int64_t block) {
  int product = 0;
  TESSERA_UNROLL
  for (int p = 1; p < kMaxProducts; ++p) {
    if (p < args.num_products && block >= args.begins[p]) product = p;
  }
  return product;
}

// The launchers on any output type. small_matmul.cu, tiled_matmul.cu.
int LaunchSmallProducts(const ProductRequest* products, int num_products, const BFloat16* x,
                        int64_t n, Stream stream);
int LaunchTiledProducts(const ProductRequest* products, int num_products, const BFloat16* x,
                        int64_t n, Stream stream);

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_MATMUL_CUH_
