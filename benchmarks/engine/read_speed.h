// How fast this machine's threads read memory: what decoding is held against.
//
//   double bytes_per_second = ReadSpeed(/*bytes=*/97 << 20, /*threads=*/2);
#ifndef TESSERA_BENCHMARKS_ENGINE_READ_SPEED_H_
#define TESSERA_BENCHMARKS_ENGINE_READ_SPEED_H_

#include <cstddef>

namespace tessera::worker {

// `threads` threads together read `bytes` (in huge pages where the system grants them) again and
// again, each its part; bytes per second of the best of several tries, from wherever the caches
// then keep that many. 0 when the memory cannot be had.
double ReadSpeed(size_t bytes, int threads);

}  // namespace tessera::worker

#endif  // TESSERA_BENCHMARKS_ENGINE_READ_SPEED_H_
