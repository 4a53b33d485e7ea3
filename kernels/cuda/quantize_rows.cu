// Rows of bfloat16 to E4M3 with a float32 scale each, for products of 8-bit floats: x ≈ scale · q,
// the largest of a row becomes 448. A row with an infinity or a NaN in it becomes NaN where that
// stood. One block per row, which it reads twice (the second time from the caches): bound by
// memory, 3 bytes per element.
#include "kernels/cuda/vectors.cuh"

namespace tessera::kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr float kLargest = 448;

// As FloatToE4M3 of kernels/e4m3.h, for magnitudes of at most 448 and NaN.
TESSERA_DEVICE uint32_t RoundToE4M3(float value) {
  const uint32_t bits = BitsOfFloat(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t below = BitsOfFloat(FloatOfBits(magnitude) + 16384.0f) & 0xfu;  // steps of 2^-9
  const uint32_t rounded = magnitude + 0x7ffffu + (magnitude >> 20 & 1u);
  const uint32_t code = magnitude < 0x3c800000u ? below : (rounded >> 20) - (120u << 3);
  return (bits >> 24 & 0x80u) | (magnitude > 0x7f800000u ? 0x7fu : code);
}

TESSERA_DEVICE float LargestOfWarp(float value) {
  TESSERA_UNROLL
  for (int mask = 16; mask > 0; mask /= 2) {
    const float other = ShuffleXor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

TESSERA_GLOBAL TESSERA_LAUNCH_BOUNDS(kThreads, 4) void QuantizeRowsKernel(View<const BFloat16> x,
                                                                          int64_t cols,
                                                                          View<uint32_t> out,
                                                                          View<float> scales) {
  const int64_t begin = int64_t{BlockX()} * cols;
  float largest = 0;
  for (int64_t c = 8 * ThreadIndex(); c < cols; c += 8 * kThreads) {
    const Floats8 floats = UnpackBf16(x.GetBits<4>(begin + c));
    TESSERA_UNROLL
    for (int i = 0; i < 8; ++i) {
      const float magnitude = FloatOfBits(BitsOfFloat(floats.v[i]) & 0x7fffffffu);
      largest = magnitude > largest ? magnitude : largest;
    }
  }
  largest = LargestOfWarp(largest);
  const Shared<float> of_warps = DynamicShared<float>(0, kWarps);
  if (Lane() == 0) of_warps.Set(WarpIndex(), largest);
  SyncThreads();
  TESSERA_UNROLL
  for (int w = 0; w < kWarps; ++w) {
    const float other = of_warps.Get(w);
    largest = other > largest ? other : largest;
  }
  // A row so small becomes zeros; its inverse would not be finite.
  const float scale = largest < 1e-30f ? 1.0f : largest / kLargest;
  const float inverse = 1.0f / scale;
  if (ThreadIndex() == 0) scales.Set(BlockX(), scale);
  for (int64_t c = 8 * ThreadIndex(); c < cols; c += 8 * kThreads) {
    const Floats8 floats = UnpackBf16(x.GetBits<4>(begin + c));
    Bits<2> codes = {};
    TESSERA_UNROLL
    for (int i = 0; i < 8; ++i) {
      const float scaled = MulRn(floats.v[i], inverse);
      const float bounded = scaled > kLargest ? kLargest : scaled < -kLargest ? -kLargest : scaled;
      codes.word[i / 4] |= RoundToE4M3(bounded) << (i % 4 * 8);
    }
    out.SetBits((begin + c) / 4, codes);
  }
}

}  // namespace

int LaunchQuantizeRows(const BFloat16* x, int64_t n, int64_t cols, uint8_t* out, float* scales,
                       Stream stream) {
  if (n == 0) return kLaunched;
  if (cols % 8 != 0 || !IsAligned16(x)) return kNoSuchKernel;
  auto* const words = reinterpret_cast<uint32_t*>(out);
  return Launch("QuantizeRows", QuantizeRowsKernel,
                {.x = n, .threads = kThreads, .shared_bytes = kWarps * 4}, stream,
                TESSERA_VIEW(x, n * cols), cols, TESSERA_VIEW(words, n * cols / 4),
                TESSERA_VIEW(scales, n));
}

}  // namespace tessera::kernels::cuda
