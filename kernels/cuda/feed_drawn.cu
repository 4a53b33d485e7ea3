// Tokens drawn by the step before, put in their places among this step's ids: one thread per token.
#include "kernels/cuda/simt.h"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 256;

TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void FeedDrawnKernel(View<const RowResult> drawn,
                                                                       int64_t n,
                                                                       View<int32_t> ids) {
  const int64_t i = int64_t{BlockX()} * kThreads + ThreadIndex();
  if (i >= n) return;
  const int32_t id = ids.Get(i);
  if (id < 0) ids.Set(i, drawn.Get(-1 - int64_t{id}).id);
}

}  // namespace

int LaunchFeedDrawn(const RowResult* drawn, int64_t num_drawn, int64_t n, int32_t* ids,
                    Stream stream) {
  if (n == 0) return kLaunched;
  return Launch("FeedDrawn", FeedDrawnKernel,
                {.x = (n + kThreads - 1) / kThreads, .threads = kThreads}, stream,
                TESSERA_VIEW(drawn, num_drawn), n, TESSERA_VIEW(ids, n));
}

}  // namespace tessera::kernels::cuda
