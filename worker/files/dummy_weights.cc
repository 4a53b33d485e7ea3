#include "worker/files/dummy_weights.h"

#include <cmath>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace tessera::worker {
namespace {

// FNV-1a, 64 bit: the same on every machine, unlike absl::Hash.
uint64_t HashName(absl::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

// splitmix64's output function, a counter-based generator when fed key + index * odd constant.
uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Uniform with mean 0 and standard deviation 1.
float Unit(uint64_t key, uint64_t index) {
  const uint64_t bits = Mix(key + (index + 1) * 0x9e3779b97f4a7c15);
  const float uniform = static_cast<float>(bits >> 40) * 0x1p-24f;  // [0, 1)
  return (uniform - 0.5f) * 3.4641016f;                             // sqrt(12)
}

struct Distribution {
  float mean = 0;
  float deviation = 0.02f;
};

Distribution DistributionOf(const v1::TensorDescription& tensor, int num_layers) {
  if (absl::EndsWith(tensor.name(), "_norm")) return {1, 0.02f};
  const bool into_residual = tensor.axis() == v1::SHARD_AXIS_Q_HEAD_COLS || tensor.axis() == v1::SHARD_AXIS_FFN_COLS;
  if (into_residual) return {0, 0.02f / std::sqrt(2.0f * static_cast<float>(num_layers))};
  return {};
}

}  // namespace

void MakeDummySlice(const v1::TensorDescription& tensor, int num_layers, const Slice& slice,
                    uint8_t* out) {
  const int64_t cols = tensor.shape(tensor.shape_size() - 1);
  const uint64_t key = HashName(tensor.name());
  const Distribution distribution = DistributionOf(tensor, num_layers);
  for (int64_t row = slice.row_begin; row < slice.row_end; ++row) {
    for (int64_t col = slice.col_begin; col < slice.col_end; ++col) {
      const float value = distribution.mean + distribution.deviation *
                                                  Unit(key, static_cast<uint64_t>(row * cols + col));
      std::memcpy(out, &value, sizeof(value));
      out += sizeof(value);
    }
  }
}

}  // namespace tessera::worker
