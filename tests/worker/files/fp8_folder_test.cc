// Folders whose matrices are 8-bit floats beside their scales.
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/tensor.h"
#include "tests/worker/files/gguf_builder.h"
#include "tests/worker/files/test_files.h"
#include "worker/files/model_file.h"
#include "worker/files/tensor_table.h"

namespace tessera::worker {
namespace {

using ::testing::HasSubstr;
using namespace testing;  // NOLINT: the builders of this folder

const char kQwen3[] = TESSERA_SOURCE_DIR "/tests/golden/tiny_models/qwen3";

struct Entry {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string data;
};

std::string Read(const ModelFile& model, const v1::TensorDescription& tensor) {
  const bool matrix = tensor.shape_size() == 2;
  const int64_t rows = matrix ? tensor.shape(0) : 1, cols = tensor.shape(matrix ? 1 : 0);
  std::string bytes(tensor.resident_bytes(), '\0');
  EXPECT_TRUE(model.ReadSlice(tensor.name(), 0, rows, 0, cols, bytes.data()).ok());
  return bytes;
}

// The tiny Qwen3 rounded to 8-bit floats, as such a folder.
class Fp8Folder : public ::testing::Test {
 protected:
  void SetUp() override {
    auto rounded = OpenModel(kQwen3, LoadFormat::kAuto, Quantization::kFp8);
    ASSERT_TRUE(rounded.ok()) << rounded.status();
    rounded_ = *std::move(rounded);
    const v1::ModelDescription& model = rounded_->description();
    const auto expected = ExpectedTensors(model.architecture(), NameStyle::kHuggingFace);
    for (int i = 0; i < model.tensors_size(); ++i) {
      const v1::TensorDescription& tensor = model.tensors(i);
      Entry& entry = entries_[expected[i].source_name];
      entry.shape = expected[i].shape;
      const std::string bytes = Read(*rounded_, tensor);
      if (tensor.type() != v1::DATA_TYPE_F8_E4M3) {
        entry.dtype = "F32";
        entry.data = bytes;
        continue;
      }
      entry.dtype = "F8_E4M3";
      const int64_t rows = tensor.shape(0), cols = tensor.shape(1);
      Entry& scale = entries_[absl::StrCat(expected[i].source_name, "_scale")];
      scale = {"F32", {rows, 1}, ""};
      for (int64_t r = 0; r < rows; ++r) {
        scale.data += bytes.substr(r * (4 + cols), 4);
        entry.data += bytes.substr(r * (4 + cols) + 4, cols);
      }
    }
  }

  void Write(const std::string& quantization =
                 R"({"quant_method": "compressed-tensors", "format": "float-quantized"})") {
    std::string config = ReadWhole(std::string(kQwen3) + "/config.json");
    config.insert(config.find('{') + 1,
                  absl::StrCat("\"quantization_config\": ", quantization, ","));
    folder_.Write("config.json", config);
    std::string header = "{", data;
    for (const auto& [name, entry] : entries_) {
      absl::StrAppend(&header, header.size() > 1 ? "," : "", "\"", name, "\":{\"dtype\":\"",
                      entry.dtype, "\",\"shape\":[", absl::StrJoin(entry.shape, ","),
                      "],\"data_offsets\":[", data.size(), ",", data.size() + entry.data.size(),
                      "]}");
      data += entry.data;
    }
    folder_.Write("model.safetensors", ByteWriter().PutString(header + "}").PutRaw(data).bytes());
  }

  std::string ErrorWith(const std::string& name, const Entry& entry) {
    const Entry before = entries_[name];
    entries_[name] = entry;
    Write();
    entries_[name] = before;
    return OpenError(folder_.path());
  }

  const std::string matrix_ = "model.layers.0.mlp.down_proj.weight";  // (48, 75)
  std::unique_ptr<ModelFile> rounded_;
  std::map<std::string, Entry> entries_;
  TempFolder folder_;
};

TEST_F(Fp8Folder, RowsComeWithTheirScales) {
  entries_["model.layers.0.mlp.down_proj.input_scale"] = {"F32", {}, std::string(4, 'x')};
  Write();
  for (const Quantization quantization : {Quantization::kAsStored, Quantization::kFp8}) {
    const auto model = OpenModel(folder_.path(), LoadFormat::kAuto, quantization);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->description().quantization(), "F8_E4M3");
    for (int i = 0; i < rounded_->description().tensors_size(); ++i) {
      const v1::TensorDescription& tensor = rounded_->description().tensors(i);
      const v1::TensorDescription& found = (*model)->description().tensors(i);
      EXPECT_EQ(found.SerializeAsString(), tensor.SerializeAsString());
      EXPECT_EQ(Read(**model, found), Read(*rounded_, tensor)) << tensor.name();
    }
    // Some columns of some rows.
    std::string some(2 * (4 + 11), '\0'), same(some.size(), '\0');
    EXPECT_TRUE((*model)->ReadSlice("layers.0.w_down", 7, 9, 3, 14, some.data()).ok());
    EXPECT_TRUE(rounded_->ReadSlice("layers.0.w_down", 7, 9, 3, 14, same.data()).ok());
    EXPECT_EQ(some, same);
  }
}

TEST_F(Fp8Folder, OneScaleForAWholeMatrix) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{}, {1}}) {
    entries_[matrix_ + "_scale"] = {"BF16", shape, std::string("\x40\x3f", 2)};  // 0.75
    Write(R"({"quant_method": "fp8", "activation_scheme": "dynamic"})");
    const auto model = OpenModel(folder_.path(), LoadFormat::kAuto);
    ASSERT_TRUE(model.ok()) << model.status();
    std::string rows(2 * (4 + 75), '\0');
    ASSERT_TRUE((*model)->ReadSlice("layers.0.w_down", 46, 48, 0, 75, rows.data()).ok());
    for (int r = 0; r < 2; ++r) {
      float scale;
      std::memcpy(&scale, rows.data() + r * (4 + 75), sizeof(scale));
      EXPECT_EQ(scale, 0.75f);
      EXPECT_EQ(rows.substr(r * (4 + 75) + 4, 75),
                entries_[matrix_].data.substr((46 + r) * 75, 75));
    }
  }
}

TEST_F(Fp8Folder, ScalesOfOtherShapesAndTypesAreRefused) {
  const std::string scale = matrix_ + "_scale";
  EXPECT_THAT(ErrorWith(scale, {"F32", {48, 3}, std::string(48 * 12, '\0')}),
              HasSubstr(scale + ": expected (48, 1) or one number, file has (48, 3)"));
  EXPECT_THAT(ErrorWith(scale, {"F32", {47}, std::string(47 * 4, '\0')}),
              HasSubstr("file has (47)"));
  EXPECT_THAT(ErrorWith(scale, {"U8", {48, 1}, std::string(48, '\0')}),
              HasSubstr(scale + ": expected F32, F16 or BF16, file has U8"));
  EXPECT_THAT(ErrorWith("model.norm.weight", {"F8_E4M3", {48}, std::string(48, '\0')}),
              HasSubstr("model.norm.weight: expected F32, F16 or BF16, file has F8_E4M3"));
  entries_.erase(scale);
  Write();
  EXPECT_THAT(OpenError(folder_.path()),
              HasSubstr(scale + ": expected beside a matrix of F8_E4M3, the file has none"));
  Write(R"({"quant_method": "fp8", "weight_block_size": [128, 128]})");
  EXPECT_THAT(OpenError(folder_.path()), HasSubstr("quantization_config; supported"));
}

TEST_F(Fp8Folder, WhatIsNoNumberIsFoundWhereItIsRead) {
  const auto error_of = [&] {
    Write();
    const auto model = OpenModel(folder_.path(), LoadFormat::kAuto);
    EXPECT_TRUE(model.ok()) << model.status();
    std::string row(4 + 75, '\0');
    EXPECT_TRUE((*model)->ReadSlice("layers.0.w_down", 4, 5, 0, 75, row.data()).ok());
    return MessageOf((*model)->ReadSlice("layers.0.w_down", 5, 6, 0, 75, row.data()));
  };
  const Entry before = entries_[matrix_];
  entries_[matrix_].data[5 * 75 + 74] = '\xff';
  EXPECT_THAT(error_of(), HasSubstr("layers.0.w_down: expected finite weights and scales"));
  entries_[matrix_] = before;
  entries_[matrix_ + "_scale"].data.replace(5 * 4, 4, std::string("\0\0\x80\x7f", 4));  // infinity
  EXPECT_THAT(error_of(), HasSubstr("layers.0.w_down: expected finite weights and scales"));
}

}  // namespace
}  // namespace tessera::worker
