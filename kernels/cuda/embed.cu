// Rows of a table by token id, zeros for ids of other ranks: one block per token. Bound by latency:
// a row of the table is a few kilobytes.
#include "kernels/cuda/weight_tiles.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <DType kType>
TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void EmbedKernel(WeightPlanes table,
                                                                   View<const int32_t> ids,
                                                                   int64_t first_row, float scale,
                                                                   int64_t cols,
                                                                   View<BFloat16> out) {
  const int64_t row = ids.Get(BlockX()) - first_row;
  const bool here = row >= 0 && row < table.rows;
  for (int64_t c = ThreadIndex(); c < cols; c += kThreads) {
    out.Set(BlockX() * cols + c, FloatToBf16(here ? scale * WeightAt<kType>(table, row, c) : 0.0f));
  }
}

}  // namespace

int LaunchEmbed(const WeightMatrix& table, int64_t first_row, float scale, const StepArrays& step,
                int64_t n, BFloat16* out, Stream stream) {
  if (n == 0) return kLaunched;
  const int32_t* ids = step.ids;
  return VisitWeightType(table.dtype, [&]<DType kType>() {
    return Launch("Embed", EmbedKernel<kType>, {.x = n, .threads = kThreads}, stream,
                  PlanesOf(table), TESSERA_VIEW(ids, step.n_capacity), first_row, scale, table.cols,
                  TESSERA_VIEW(out, n * table.cols));
  });
}

}  // namespace tessera::kernels::cuda
