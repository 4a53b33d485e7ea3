// What this machine can do at best, measured in the same run as what is held against it.
//
// Every floor runs on `threads` threads at once and is the best of several tries, by the clock on
// the wall; measured when first asked for and then remembered. Threads: one caller.
//
//   double bandwidth = ReadBytesPerSecond("amx", /*threads=*/2, bytes);
#ifndef TESSERA_BENCHMARKS_KERNELS_FLOORS_H_
#define TESSERA_BENCHMARKS_KERNELS_FLOORS_H_

#include <cstddef>
#include <string>

namespace tessera::kernels {

// Reading `bytes` of huge pages again and again, each thread its own share of them, from wherever
// the caches then keep that many.
double ReadBytesPerSecond(const std::string& instruction_set, int threads, size_t bytes);

enum class Peak { kFloat32, kInt8Dots, kBFloat16Dots, kInt8Tiles, kBFloat16Tiles };

// Operations on registers alone, a multiply-add counts two. 0 where the set has no such instruction.
double PeakOperationsPerSecond(const std::string& instruction_set, Peak peak, int threads);

}  // namespace tessera::kernels

#endif  // TESSERA_BENCHMARKS_KERNELS_FLOORS_H_
