#include "worker/comm/rank_sum.h"

#include <algorithm>
#include <cstddef>

namespace tessera::worker {
namespace {

// Elements summed at a time: small enough to stay in the first-level cache, and a buffer of their
// own frees the parts from aliasing `sum`.
constexpr std::size_t kBlock = 1024;

}  // namespace

template <typename T>
void SumInRankOrder(absl::Span<const void* const> parts, absl::Span<T> sum) {
  alignas(64) T block[kBlock];
  for (std::size_t begin = 0; begin < sum.size(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, sum.size() - begin);
    std::copy_n(static_cast<const T*>(parts[0]) + begin, count, block);
    for (const void* untyped : parts.subspan(1)) {
      const T* part = static_cast<const T*>(untyped);
      for (std::size_t i = 0; i < count; ++i) block[i] += part[begin + i];
    }
    std::copy_n(block, count, sum.data() + begin);
  }
}

template void SumInRankOrder(absl::Span<const void* const> parts, absl::Span<float> sum);
template void SumInRankOrder(absl::Span<const void* const> parts, absl::Span<double> sum);

}  // namespace tessera::worker
