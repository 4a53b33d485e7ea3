// Weights made up from a config.
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/worker/files/test_files.h"
#include "worker/files/model_file.h"

namespace tessera::worker {
namespace {

using ::testing::HasSubstr;
using namespace testing;  // NOLINT: the builders of this folder

const char kQwen3[] = TESSERA_SOURCE_DIR "/tests/golden/tiny_models/qwen3";

std::vector<float> Read(const ModelFile& model, const std::string& tensor, int64_t row_begin,
                        int64_t row_end, int64_t col_begin, int64_t col_end) {
  std::vector<float> out(static_cast<size_t>((row_end - row_begin) * (col_end - col_begin)));
  EXPECT_TRUE(
      model.ReadSlice(tensor, row_begin, row_end, col_begin, col_end, out.data()).ok());
  return out;
}

TEST(DummyModel, NeedsTheConfigAlone) {
  const TempFolder folder;
  folder.Write("config.json", ReadWhole(absl::StrCat(kQwen3, "/config.json")));
  const auto from_folder = OpenModel(folder.path(), LoadFormat::kDummy);
  const auto from_file = OpenModel(folder.Path("config.json"), LoadFormat::kDummy);
  ASSERT_TRUE(from_folder.ok()) << from_folder.status();
  ASSERT_TRUE(from_file.ok()) << from_file.status();
  EXPECT_EQ((*from_folder)->description().SerializeAsString(),
            (*from_file)->description().SerializeAsString());
  EXPECT_EQ((*from_file)->description().weight_format(), "dummy");
  EXPECT_EQ((*from_file)->description().name(),
            std::filesystem::path(folder.path()).filename().string());
  // The same table as the real checkpoint's.
  const auto real = OpenModel(kQwen3, LoadFormat::kAuto);
  ASSERT_TRUE(real.ok());
  ASSERT_EQ((*real)->description().tensors_size(), (*from_file)->description().tensors_size());
  for (int i = 0; i < (*real)->description().tensors_size(); ++i) {
    EXPECT_EQ((*real)->description().tensors(i).SerializeAsString(),
              (*from_file)->description().tensors(i).SerializeAsString());
  }
}

TEST(DummyModel, EverySliceAgrees) {
  const auto model = OpenModel(kQwen3, LoadFormat::kDummy);
  ASSERT_TRUE(model.ok()) << model.status();
  const int64_t rows = 96, cols = 48;  // layers.1.wq
  const auto whole = Read(**model, "layers.1.wq", 0, rows, 0, cols);
  for (const auto& [row, col] : {std::pair<int64_t, int64_t>{0, 0}, {5, 3}, {95, 47}, {31, 16}}) {
    const auto part = Read(**model, "layers.1.wq", row, rows, col, cols);
    for (int64_t r = row; r < rows; ++r) {
      for (int64_t c = col; c < cols; ++c) {
        ASSERT_EQ(part[(r - row) * (cols - col) + c - col], whole[r * cols + c]);
      }
    }
  }
  EXPECT_NE(whole, Read(**model, "layers.2.wq", 0, rows, 0, cols));
}

TEST(DummyModel, LooksLikeAFreshModel) {
  const auto model = OpenModel(kQwen3, LoadFormat::kDummy);
  ASSERT_TRUE(model.ok()) << model.status();
  double sum = 0, squares = 0;
  const auto weights = Read(**model, "layers.0.w_up", 0, 75, 0, 48);
  for (const float w : weights) {
    sum += w;
    squares += double{w} * w;
  }
  const double count = static_cast<double>(weights.size());
  EXPECT_NEAR(sum / count, 0, 0.002);
  EXPECT_NEAR(std::sqrt(squares / count), 0.02, 0.001);
  for (const float w : Read(**model, "layers.0.attn_norm", 0, 1, 0, 48)) EXPECT_NEAR(w, 1, 0.1);
  for (const float w : Read(**model, "layers.0.q_norm", 0, 1, 0, 16)) EXPECT_NEAR(w, 1, 0.1);
}

TEST(DummyModel, BadPaths) {
  EXPECT_THAT(OpenError("/nowhere/config.json", LoadFormat::kDummy), HasSubstr("cannot open"));
  const TempFolder folder;
  EXPECT_THAT(OpenError(folder.path(), LoadFormat::kDummy), HasSubstr("config.json"));
}

TEST(LoadFormat, Names) {
  EXPECT_EQ(*ParseLoadFormat("auto"), LoadFormat::kAuto);
  EXPECT_EQ(*ParseLoadFormat("gguf"), LoadFormat::kGguf);
  EXPECT_EQ(*ParseLoadFormat("safetensors"), LoadFormat::kSafetensors);
  EXPECT_EQ(*ParseLoadFormat("dummy"), LoadFormat::kDummy);
  EXPECT_THAT(MessageOf(ParseLoadFormat("pickle").status()), HasSubstr("expected auto, gguf"));
}

}  // namespace
}  // namespace tessera::worker
