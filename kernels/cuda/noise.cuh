// The Gumbel noise of a token, keyed by seed, position and token id: the same numbers as the host's
// (kernels/gumbel.h says why and how; a test compares them), so a sample does not depend on where
// it was made.
#ifndef TESSERA_KERNELS_CUDA_NOISE_CUH_
#define TESSERA_KERNELS_CUDA_NOISE_CUH_

#include "kernels/cuda/simt.h"

namespace tessera::kernels::cuda {

class Noise {
 public:
  TESSERA_DEVICE Noise(uint64_t seed, int64_t position)
      : state_(Mix(Mix(seed + kGamma) + static_cast<uint64_t>(position) * kGamma)) {}

  // Standard Gumbel.
  TESSERA_DEVICE double Gumbel(int32_t token_id) const {
    const double uniform = (static_cast<double>(Random(token_id) >> 12) + 0.5) * 0x1p-52;
    return -LogDouble(-LogDouble(uniform));
  }

  // Never below Gumbel(token_id), without a logarithm.
  TESSERA_DEVICE double GumbelBound(int32_t token_id) const {
    constexpr double kLn2 = 0.693147180559945309417232121458176568;
    return (LeadingOnes(Random(token_id)) + 1) * kLn2;
  }

 private:
  static constexpr uint64_t kGamma = 0x9e3779b97f4a7c15;

  static TESSERA_DEVICE uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  TESSERA_DEVICE uint64_t Random(int32_t token_id) const {
    return Mix(state_ + (static_cast<uint64_t>(token_id) + 1) * kGamma);
  }

  uint64_t state_;
};

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_NOISE_CUH_
