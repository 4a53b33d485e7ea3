// A small counter-based random stream: the same on every platform and standard library, and cheap
// to start, so that every request draws from a stream of its own and what it sends does not depend
// on the order in which others were made.
//
//   Random random({seed, workload, request});
//   int tokens = lengths.Draw(random);
#ifndef TESSERA_BENCHMARKS_SERVING_RANDOM_H_
#define TESSERA_BENCHMARKS_SERVING_RANDOM_H_

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <numbers>

namespace tessera::benchmarks {

class Random {
 public:
  // One stream per list of keys.
  explicit Random(std::initializer_list<uint64_t> keys) {
    for (uint64_t key : keys) state_ = Mix(state_ + kStep) ^ key;
  }

  uint64_t Next() { return Mix(state_ += kStep); }                            // SplitMix64
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }  // [0, 1)
  // 0 .. bound - 1; bound > 0. Its bias is below 2^-30 for the bounds used here.
  int64_t Below(int64_t bound) {
    return static_cast<int64_t>(Next() % static_cast<uint64_t>(bound));
  }
  double Exponential(double rate) { return -std::log1p(-Uniform()) / rate; }
  double Normal() {  // Box and Muller
    const double radius = std::sqrt(-2.0 * std::log1p(-Uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * Uniform());
  }

 private:
  static constexpr uint64_t kStep = 0x9E3779B97F4A7C15;
  static uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

  uint64_t state_ = 0;
};

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_RANDOM_H_
