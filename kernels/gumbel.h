// Random numbers that need no state: the same (seed, position, token) gives the same number on
// every rank, layout and batch.
//
// The host's side; kernels/cuda/noise.cuh makes the same numbers on a GPU.
//
// The Gumbel-max trick: the index of max(logit[i] / T + gumbel[i]) with independent standard Gumbel
// noise is distributed as softmax(logits / T). So each rank samples from its own vocabulary rows
// and the best of the ranks' bests is an exact sample of the whole.
//
//   NoiseRow noise(seed, position);
//   double score = logit / temperature + noise.Gumbel(token_id);
#ifndef TESSERA_KERNELS_GUMBEL_H_
#define TESSERA_KERNELS_GUMBEL_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace tessera::kernels {

// The noise of one row of logits. position: that of the token to be sampled.
class NoiseRow {
 public:
  NoiseRow(uint64_t seed, int64_t position)
      : state_(Mix(Mix(seed + kGamma) + static_cast<uint64_t>(position) * kGamma)) {}

  // Standard Gumbel: -ln(-ln u), u uniform in (0, 1).
  double Gumbel(int32_t token_id) const {
    const double uniform = (static_cast<double>(Bits(token_id) >> 12) + 0.5) * 0x1p-52;
    return -std::log(-std::log(uniform));
  }

  // Never below Gumbel(token_id), at a fraction of its cost: -ln u >= 1 - u, and with b leading one
  // bits u has, 1 - u > 2^-(b+1), so the noise is below (b + 1) ln 2. Most tokens cannot win, and
  // this says so without a logarithm.
  double GumbelBound(int32_t token_id) const {
    return (std::countl_one(Bits(token_id)) + 1) * std::numbers::ln2;
  }

 private:
  static constexpr uint64_t kGamma = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio, odd

  // SplitMix64's output function (Steele, Lea, Flood 2014), a bijection of 64 bits.
  static uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  uint64_t Bits(int32_t token_id) const {
    return Mix(state_ + (static_cast<uint64_t>(token_id) + 1) * kGamma);
  }

  uint64_t state_;
};

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_GUMBEL_H_
