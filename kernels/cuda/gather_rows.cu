// Rows of activations picked by index, and one KV block over another: plain copies.
#include "kernels/cuda/vectors.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 256;

TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void GatherRowsKernel(
    View<const BFloat16> x, View<const int64_t> rows, int64_t cols, bool aligned,
    View<BFloat16> out) {
  const int64_t from = rows.Get(BlockX()) * cols;
  const int64_t to = BlockX() * cols;
  if (aligned) {
    for (int64_t c = 8 * ThreadIndex(); c < cols; c += 8 * kThreads) {
      out.SetBits(to + c, x.GetBits<4>(from + c));
    }
    return;
  }
  for (int64_t c = ThreadIndex(); c < cols; c += kThreads) out.Set(to + c, x.Get(from + c));
}

TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void CopyKvBlockKernel(
    View<BFloat16> keys, View<BFloat16> values, int64_t source, int64_t destination,
    int64_t block_elements, bool aligned) {
  View<BFloat16> cache = keys;
  if (BlockY() == 1) cache = values;
  const int64_t begin = 8 * (int64_t{BlockX()} * kThreads + ThreadIndex());
  const int64_t from = source * block_elements;
  const int64_t to = destination * block_elements;
  if (aligned && begin + 8 <= block_elements) {
    cache.SetBits(to + begin, cache.GetBits<4>(from + begin));
    return;
  }
  for (int64_t i = begin; i < block_elements && i < begin + 8; ++i) {
    cache.Set(to + i, cache.Get(from + i));
  }
}

}  // namespace

int LaunchGatherRows(const BFloat16* x, int64_t x_rows, const int64_t* rows, int64_t count,
                     int64_t cols, BFloat16* out, Stream stream) {
  if (count == 0) return kLaunched;
  const bool aligned = cols % 8 == 0 && IsAligned16(x) && IsAligned16(out);
  return Launch("GatherRows", GatherRowsKernel, {.x = count, .threads = kThreads}, stream,
                TESSERA_VIEW(x, x_rows * cols), TESSERA_VIEW(rows, count), cols, aligned,
                TESSERA_VIEW(out, count * cols));
}

int LaunchCopyKvBlock(const KvCache& cache, int64_t source, int64_t destination, Stream stream) {
  const int64_t elements =
      int64_t{cache.num_kv_heads} * cache.block_tokens * cache.head_dim;
  const bool aligned =
      elements % 8 == 0 && IsAligned16(cache.keys) && IsAligned16(cache.values);
  return Launch("CopyKvBlock", CopyKvBlockKernel,
                {.x = CeilDiv(elements, 8 * kThreads), .y = 2, .threads = kThreads}, stream,
                TESSERA_VIEW(cache.keys, cache.num_blocks * elements),
                TESSERA_VIEW(cache.values, cache.num_blocks * elements), source, destination,
                elements, aligned);
}

}  // namespace tessera::kernels::cuda
