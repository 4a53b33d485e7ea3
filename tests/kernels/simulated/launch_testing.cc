#include "tests/kernels/simulated/launch_testing.h"

#include <algorithm>

#include "gtest/gtest.h"
#include "kernels/cuda/packed_weights.h"
#include "kernels/cuda/simt.h"

namespace tessera::kernels::cuda {

DeviceArray<BFloat16> ToBf16(const std::vector<float>& floats, int64_t off) {
  DeviceArray<BFloat16> array(static_cast<int64_t>(floats.size()), off);
  for (size_t i = 0; i < floats.size(); ++i) array[i] = FloatToBf16(floats[i]);
  return array;
}

std::vector<float> ToFloats(const DeviceArray<BFloat16>& from) {
  std::vector<float> floats(from.size());
  for (int64_t i = 0; i < from.size(); ++i) floats[i] = BFloat16ToFloat(from.data()[i].bits);
  return floats;
}

std::vector<float> RoundedToBf16(const std::vector<float>& floats) {
  return ToFloats(ToBf16(floats));
}

void RunLaunch(int error) {
  const std::string failure = simt::TakeFailure();
  ASSERT_EQ(error, kLaunched) << failure;
  ASSERT_EQ(failure, "");
}

PackedMatrix Pack(const MatrixView& from) {
  PackedMatrix packed;
  packed.memory = DeviceArray<std::byte>(PackedBytes(from.dtype, from.rows, from.cols));
  packed.w = {packed.memory.data(), from.dtype, from.rows, from.cols};
  const size_t row_bytes = RowBytes(from.dtype, from.cols);
  const int64_t step = 2 * kPackRows;
  for (int64_t row = 0; row < from.rows; row += step) {
    const int64_t count = std::min(step, from.rows - row);
    std::vector<std::byte> staging(PackStagingBytes(from.dtype, count, from.cols));
    const auto* rows = static_cast<const std::byte*>(from.data) + row * row_bytes;
    const PackedPieces pieces =
        PackRows(from.dtype, from.rows, from.cols, row, count, rows, staging.data());
    for (int i = 0; i < pieces.count; ++i) {
      const PackedPiece& piece = pieces.piece[i];
      std::memcpy(packed.memory.data() + piece.offset, staging.data() + piece.from, piece.bytes);
    }
  }
  return packed;
}

}  // namespace tessera::kernels::cuda
