#include "worker/engine/core_shares.h"

#include <algorithm>

namespace tessera::worker {

bool StagesAreTimeSliced(const CoreShares& shares) {
  return shares.threads_per_rank == 0 && shares.ranks_on_host >= shares.ranks;
}

bool CoresAreShared(const CoreShares& shares, int stage_ranks) {
  return ThreadsOf(shares, stage_ranks) * shares.ranks_on_host > shares.cores;
}

int ThreadsOf(const CoreShares& shares, int stage_ranks) {
  if (shares.threads_per_rank > 0) return shares.threads_per_rank;
  const int at_once =
      StagesAreTimeSliced(shares) ? std::min(stage_ranks, shares.ranks) : shares.ranks_on_host;
  return std::max(1, shares.cores / std::max(1, at_once));
}

}  // namespace tessera::worker
