// Weights rounded to 8-bit floats while they are read.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/reference.h"
#include "kernels/tensor.h"
#include "tests/worker/files/test_files.h"
#include "worker/files/fp8_model.h"
#include "worker/files/model_file.h"

namespace tessera::worker {
namespace {

using ::testing::HasSubstr;
using namespace testing;  // NOLINT: the builders of this folder
using kernels::DType;

const char kQwen3[] = TESSERA_SOURCE_DIR "/tests/golden/tiny_models/qwen3";

const v1::TensorDescription& Tensor(const ModelFile& model, const std::string& name) {
  for (const v1::TensorDescription& tensor : model.description().tensors()) {
    if (tensor.name() == name) return tensor;
  }
  ADD_FAILURE() << name;
  return v1::TensorDescription::default_instance();
}

// Rows and columns of a tensor as floats.
std::vector<float> Read(const ModelFile& model, const std::string& tensor, int64_t row_begin,
                        int64_t row_end, int64_t col_begin, int64_t col_end) {
  const DType type = ResidentType(Tensor(model, tensor), model.description().architecture());
  const int64_t cols = col_end - col_begin;
  const size_t row_bytes = kernels::RowBytes(type, cols);
  std::vector<uint8_t> bytes((row_end - row_begin) * row_bytes);
  EXPECT_TRUE(model.ReadSlice(tensor, row_begin, row_end, col_begin, col_end, bytes.data()).ok());
  std::vector<float> out((row_end - row_begin) * cols);
  for (int64_t r = 0; r < row_end - row_begin; ++r) {
    kernels::reference::DequantizeRow(type, &bytes[r * row_bytes], 0, cols, &out[r * cols]);
  }
  return out;
}

TEST(Fp8Model, EveryRowIsRoundedByItsOwnLargest) {
  for (const LoadFormat format : {LoadFormat::kAuto, LoadFormat::kDummy}) {
    const auto before = OpenModel(kQwen3, format);
    const auto after = OpenModel(kQwen3, format, Quantization::kFp8);
    ASSERT_TRUE(before.ok()) << before.status();
    ASSERT_TRUE(after.ok()) << after.status();
    const int64_t rows = 48, cols = 75;  // layers.1.w_down
    const auto exact = Read(**before, "layers.1.w_down", 0, rows, 0, cols);
    const auto rounded = Read(**after, "layers.1.w_down", 0, rows, 0, cols);
    for (int64_t r = 0; r < rows; ++r) {
      float largest = 0, kept = 0;
      for (int64_t c = 0; c < cols; ++c) {
        largest = std::max(largest, std::fabs(exact[r * cols + c]));
        kept = std::max(kept, std::fabs(rounded[r * cols + c]));
      }
      EXPECT_FLOAT_EQ(kept, largest) << "row " << r;
      for (int64_t c = 0; c < cols; ++c) {
        // Half a step of 3 bits of mantissa, or of the smallest numbers.
        const float value = exact[r * cols + c];
        ASSERT_NEAR(rounded[r * cols + c], value,
                    std::max(std::fabs(value) / 15.9f, largest / 448 / 1000))
            << r << ", " << c;
      }
    }
  }
}

// A rank that holds some columns of a row computes with the scale of all of them.
TEST(Fp8Model, EverySliceAgrees) {
  const auto model = OpenModel(kQwen3, LoadFormat::kAuto, Quantization::kFp8);
  ASSERT_TRUE(model.ok()) << model.status();
  const int64_t rows = 48, cols = 75;
  const auto whole = Read(**model, "layers.0.w_down", 0, rows, 0, cols);
  for (const auto& [row, col] : {std::pair<int64_t, int64_t>{0, 0}, {5, 3}, {47, 74}, {31, 16}}) {
    const auto part = Read(**model, "layers.0.w_down", row, rows, col, cols);
    for (int64_t r = row; r < rows; ++r) {
      for (int64_t c = col; c < cols; ++c) {
        ASSERT_EQ(part[(r - row) * (cols - col) + c - col], whole[r * cols + c]);
      }
    }
  }
}

// A model of one 1 x 3 matrix of float32.
struct OneMatrix : ModelFile {
  const v1::ModelDescription& description() const override { return about; }
  absl::Status ReadSlice(absl::string_view, int64_t, int64_t, int64_t, int64_t,
                         void* out) const override {
    std::memcpy(out, row.data(), row.size() * sizeof(float));
    return absl::OkStatus();
  }
  v1::ModelDescription about;
  std::vector<float> row = {0, 0, 0};
};

TEST(Fp8Model, RefusesWeightsThatAreNotFinite) {
  auto file = std::make_unique<OneMatrix>();
  v1::TensorDescription& tensor = *file->about.add_tensors();
  tensor.set_name("layers.0.wq");
  tensor.set_type(v1::DATA_TYPE_F32);
  tensor.add_shape(1);
  tensor.add_shape(3);
  OneMatrix& matrix = *file;
  const auto model = RoundToFp8(std::move(file));
  ASSERT_TRUE(model.ok()) << model.status();
  uint8_t out[4 + 3];
  ASSERT_TRUE((*model)->ReadSlice("layers.0.wq", 0, 1, 0, 3, out).ok());
  EXPECT_THAT(std::vector<uint8_t>(out + 4, out + 7),
              ::testing::Each(0));  // a row of zeros is well
  for (const float bad : {INFINITY, NAN}) {
    matrix.row[2] = bad;
    const absl::Status status = (*model)->ReadSlice("layers.0.wq", 0, 1, 0, 1, out);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(MessageOf(status), HasSubstr("layers.0.wq: expected finite weights, row 0"));
  }
}

TEST(Fp8Model, RefusesWeightsThatAreQuantizedAlready) {
  auto file = std::make_unique<OneMatrix>();
  file->about.set_quantization("Q4_0");
  v1::TensorDescription& tensor = *file->about.add_tensors();
  tensor.set_name("layers.0.wq");
  tensor.set_type(v1::DATA_TYPE_Q4_0);
  tensor.add_shape(32);
  tensor.add_shape(32);
  const auto model = RoundToFp8(std::move(file));
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MessageOf(model.status()),
            "--quantization fp8: expected weights of F32, F16 or BF16; layers.0.wq is Q4_0, "
            "quantized already");
  EXPECT_EQ(ParseQuantization("fp9").status().message(),
            "quantization: expected fp8, found \"fp9\"");
}

TEST(Fp8Model, DescribesWhatItGives) {
  const auto before = OpenModel(kQwen3, LoadFormat::kAuto);
  const auto after = OpenModel(kQwen3, LoadFormat::kAuto, Quantization::kFp8);
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_EQ((*after)->description().quantization(), "F8_E4M3");
  const v1::TensorDescription& matrix = Tensor(**after, "layers.0.w_down");
  EXPECT_EQ(matrix.type(), v1::DATA_TYPE_F8_E4M3);
  EXPECT_EQ(matrix.resident_bytes(), 48 * (4 + 75));
  // Embedding, head and norms stay.
  for (const std::string name :
       {"token_embedding", "output_norm", "layers.0.attn_norm", "layers.0.q_norm"}) {
    EXPECT_EQ(Tensor(**after, name).SerializeAsString(),
              Tensor(**before, name).SerializeAsString());
  }
  EXPECT_EQ(Read(**after, "token_embedding", 0, 9, 0, 48),
            Read(**before, "token_embedding", 0, 9, 0, 48));
  std::vector<uint8_t> out(4096);
  EXPECT_THAT(MessageOf((*after)->ReadSlice("layers.0.w_down", 0, 49, 0, 75, out.data())),
              HasSubstr("layers.0.w_down: expected a slice of (48, 75)"));
  EXPECT_THAT(MessageOf((*after)->ReadSlice("layers.9.w_down", 0, 1, 0, 75, out.data())),
              HasSubstr("no such tensor"));
}

}  // namespace
}  // namespace tessera::worker
