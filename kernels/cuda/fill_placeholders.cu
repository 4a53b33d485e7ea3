// Tokens that the step before sampled, put in the places of their placeholders among this step's ids:
// one thread per token, which chooses among the ranks' samples.
#include "kernels/cuda/simt.h"

namespace tessera::kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct FillArgs {
  View<const SampledRow> sampled;  // (ranks, pitch), of which `rows` are samples
  int ranks = 1;
  int64_t pitch = 0;
  int64_t n = 0;
  View<int32_t> ids;  // (n)
};

// The token of a row: the first by Better (kernels/sampling.h) of what the ranks sampled.
TESSERA_DEVICE int32_t ChosenId(const FillArgs& args, int64_t row) {
  SampledRow best = args.sampled.Get(row);
  for (int rank = 1; rank < args.ranks && best.id >= 0; ++rank) {
    const SampledRow other = args.sampled.Get(rank * args.pitch + row);
    const bool better =
        other.score > best.score || (other.score == best.score && other.id < best.id);
    if (other.id < 0 || better) best = other;
  }
  return best.id;
}

TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void FillPlaceholdersKernel(FillArgs args) {
  const int64_t i = int64_t{BlockX()} * kThreads + ThreadIndex();
  if (i >= args.n) return;
  const int32_t id = args.ids.Get(i);
  if (id < 0) args.ids.Set(i, ChosenId(args, -1 - int64_t{id}));
}

}  // namespace

int LaunchFillPlaceholders(const RankSamples& samples, int64_t n, int32_t* ids, Stream stream) {
  if (n == 0) return kLaunched;
  FillArgs args;
  args.sampled = TESSERA_VIEW(samples.sampled, (samples.ranks - 1) * samples.pitch + samples.rows);
  args.ranks = samples.ranks;
  args.pitch = samples.pitch;
  args.n = n;
  args.ids = TESSERA_VIEW(ids, n);
  return Launch("FillPlaceholders", FillPlaceholdersKernel,
                {.x = (n + kThreads - 1) / kThreads, .threads = kThreads}, stream, args);
}

}  // namespace tessera::kernels::cuda
