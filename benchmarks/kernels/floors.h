// What one core can do at best, measured in the same run as what is held against it.
//
// Both floors run the instruction set of the device under test; each is the best of several tries,
// measured when first asked for and then remembered. Threads: one caller.
//
//   double floor = StreamBytesPerSecond("avx512", bytes);
#ifndef TESSERA_BENCHMARKS_KERNELS_FLOORS_H_
#define TESSERA_BENCHMARKS_KERNELS_FLOORS_H_

#include <cstddef>
#include <string>

namespace tessera::kernels {

// Reading `bytes` again and again, from wherever the caches then keep that many.
double StreamBytesPerSecond(const std::string& instruction_set, size_t bytes);

// Multiply-adds on registers alone, two operations each, enough chains to fill the pipeline.
double PeakOperationsPerSecond(const std::string& instruction_set);

}  // namespace tessera::kernels

#endif  // TESSERA_BENCHMARKS_KERNELS_FLOORS_H_
