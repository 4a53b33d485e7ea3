// Tokens drawn by the step before, put in their places among this step's ids: one thread per token,
// which chooses among the ranks' draws.
#include "kernels/cuda/simt.h"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct FeedArgs {
  View<const RowResult> drawn;  // (ranks, pitch), of which `rows` are draws
  int ranks = 1;
  int64_t pitch = 0;
  int64_t n = 0;
  View<int32_t> ids;  // (n)
};

// The token of a row: Better of worker/engine/logit_row.h over the ranks' draws.
TESSERA_DEVICE int32_t ChosenId(const FeedArgs& args, int64_t row) {
  RowResult best = args.drawn.Get(row);
  for (int rank = 1; rank < args.ranks && best.id >= 0; ++rank) {
    const RowResult other = args.drawn.Get(rank * args.pitch + row);
    const bool better =
        other.score > best.score || (other.score == best.score && other.id < best.id);
    if (other.id < 0 || better) best = other;
  }
  return best.id;
}

TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void FeedDrawnKernel(FeedArgs args) {
  const int64_t i = int64_t{BlockX()} * kThreads + ThreadIndex();
  if (i >= args.n) return;
  const int32_t id = args.ids.Get(i);
  if (id < 0) args.ids.Set(i, ChosenId(args, -1 - int64_t{id}));
}

}  // namespace

int LaunchFeedDrawn(const DrawnRows& drawn, int64_t n, int32_t* ids, Stream stream) {
  if (n == 0) return kLaunched;
  FeedArgs args;
  args.drawn = TESSERA_VIEW(drawn.results, (drawn.ranks - 1) * drawn.pitch + drawn.rows);
  args.ranks = drawn.ranks;
  args.pitch = drawn.pitch;
  args.n = n;
  args.ids = TESSERA_VIEW(ids, n);
  return Launch("FeedDrawn", FeedDrawnKernel,
                {.x = (n + kThreads - 1) / kThreads, .threads = kThreads}, stream, args);
}

}  // namespace tessera::kernels::cuda
