// The one place where contributions are added, so that every communicator gives the same bits.
#ifndef TESSERA_WORKER_COMM_RANK_SUM_H_
#define TESSERA_WORKER_COMM_RANK_SUM_H_

#include "absl/types/span.h"

namespace tessera::worker {

// sum[i] = ((parts[0][i] + parts[1][i]) + parts[2][i]) + ... for every i < sum.size(), with T float
// or double. Each part points to sum.size() of T; `sum` may be one of the parts. At least one part.
template <typename T>
void SumInRankOrder(absl::Span<const void* const> parts, absl::Span<T> sum);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_RANK_SUM_H_
