#include "worker/files/stored_tensor.h"

#include <array>

#include "worker/files/checked_math.h"

namespace tessera::worker {
namespace {

struct TypeRow {
  StorageBlock block;
  kernels::DType repacked;
};

// Indexed by v1::DataType.
constexpr std::array<TypeRow, 13> kTypes = {{
    {{0, 0}, kernels::DType::kF32},  // DATA_TYPE_UNSPECIFIED
    {{1, 4}, kernels::DType::kF32},
    {{1, 2}, kernels::DType::kF16},
    {{1, 2}, kernels::DType::kBF16},
    {{32, 34}, kernels::DType::kQ8_0},
    {{32, 18}, kernels::DType::kQ4_0},
    {{32, 20}, kernels::DType::kQ4_1},
    {{32, 22}, kernels::DType::kQ5_0},
    {{32, 24}, kernels::DType::kQ5_1},
    {{256, 144}, kernels::DType::kQ4_K32},
    {{256, 176}, kernels::DType::kQ5_K32},
    {{256, 210}, kernels::DType::kQ6_K32},
    {{1, 1}, kernels::DType::kF8E4M3},  // and the rows' scales, which are elsewhere in files
}};
static_assert(kTypes.size() == v1::DataType_ARRAYSIZE);

}  // namespace

StorageBlock StorageBlockOf(v1::DataType type) { return kTypes[type].block; }

bool IsQuantized(v1::DataType type) { return kTypes[type].block.elements > 1; }

kernels::DType RepackedType(v1::DataType type) { return kTypes[type].repacked; }

std::optional<uint64_t> StoredBytes(absl::Span<const int64_t> shape, StorageBlock block) {
  const int64_t row = shape.empty() ? 1 : shape.back();
  if (row % block.elements != 0) return std::nullopt;
  std::optional<uint64_t> bytes = static_cast<uint64_t>(block.bytes);
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] < 0) return std::nullopt;
    const bool innermost = i + 1 == shape.size();
    bytes = CheckedMul(*bytes, static_cast<uint64_t>(innermost ? shape[i] / block.elements
                                                               : shape[i]));
    if (!bytes) return std::nullopt;
  }
  return bytes;
}

}  // namespace tessera::worker
