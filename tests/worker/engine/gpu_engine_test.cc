// The engine on one simulated GPU (kernels/simulated): golden logits, replayed steps, ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "kernels/half.h"
#include "kernels/simulated/cublaslt.h"
#include "tests/worker/engine/in_process_group.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

// What the rounding of activations to bfloat16 leads to in these models, which are small and
// random: one bit more or less in a product moves single logits by 3% of the largest, and all of
// them by 2% on average. Any mistake moves them by as much as they are large.
constexpr double kLargestDifference = 0.1;
constexpr double kRootMeanSquare = 0.04;

// The root of the mean of (a - b)^2, over that of b^2.
double RootMeanSquare(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    size += double{b[i]} * b[i];
  }
  return std::sqrt(difference / size);
}

void ExpectNear(const std::vector<float>& a, const std::vector<float>& b, const std::string& what) {
  EXPECT_LE(RelativeDifference(a, b), kLargestDifference) << what;
  EXPECT_LE(RootMeanSquare(a, b), kRootMeanSquare) << what;
}

std::vector<GenerationResult> GenerateOnGpu(const ModelFile& file,
                                            const std::vector<GenerationRequest>& requests,
                                            const GenerationOptions& options = {},
                                            bool deterministic = true) {
  const v1::ShardPlan plan = PlanOf(file, 1, 1);
  GenerationScript script(plan, requests, options);
  InProcessGroupOptions group;
  group.engine.device = "cuda";
  group.engine.device_options.deterministic = deterministic;
  const absl::Status status = RunInProcessGroup(file, plan, &script, group);
  EXPECT_TRUE(status.ok()) << status;
  return script.results();
}

class GpuGoldenLogitsTest : public testing::TestWithParam<std::string> {};

TEST_P(GpuGoldenLogitsTest, AreThoseOfTransformersWithinBFloat16) {
  const auto file = OpenTinyModel(GetParam());
  const TinyGolden golden = LoadTinyGolden(GetParam());
  std::vector<GenerationRequest> requests;
  for (const std::vector<int32_t>& prompt : golden.prompts) {
    requests.push_back({.prompt = prompt, .return_logits = true});
  }
  const auto results = GenerateOnGpu(*file, requests);
  ASSERT_EQ(results.size(), golden.logits.size());
  for (size_t i = 0; i < results.size(); ++i) {
    ExpectNear(results[i].logits, golden.logits[i], "prompt " + std::to_string(i));
  }
}

INSTANTIATE_TEST_SUITE_P(, GpuGoldenLogitsTest,
                         testing::Values("llama", "llama_linear", "mistral", "mistral_yarn",
                                         "qwen2", "qwen3", "qwen3_windows", "smollm3",
                                         "smollm3_pattern", "granite", "olmo2", "phi3",
                                         "phi3_partial"),
                         [](const auto& test) { return test.param; });

// Alone, a sequence runs in rows of 1 and its graph is replayed often; in a batch in rows of 8;
// together with others' prompts it is not recorded at all.
void ExpectTokensOfTheirOwn(const ModelFile& file) {
  const int32_t vocab = file.description().architecture().vocab_size();
  const std::vector<GenerationRequest> requests = EightPrompts(vocab, 6, /*return_logits=*/true);
  const auto together = GenerateOnGpu(file, requests);
  const auto in_chunks = GenerateOnGpu(file, requests, {.prompt_chunk = 5});
  ASSERT_EQ(together.size(), requests.size());
  ASSERT_EQ(in_chunks.size(), requests.size());
  for (size_t i = 0; i < requests.size(); i += 3) {
    const auto alone = GenerateOnGpu(file, {requests[i]});
    ASSERT_EQ(alone.size(), 1u);
    EXPECT_EQ(alone[0].tokens, together[i].tokens) << "prompt " << i;
    EXPECT_EQ(alone[0].logits, together[i].logits) << "prompt " << i;
    EXPECT_EQ(in_chunks[i].logits, together[i].logits) << "prompt " << i;
  }
}

TEST(GpuEngineTest, TokensDoNotDependOnBatchChunksOrReplay) {
  ExpectTokensOfTheirOwn(*OpenTinyModel("llama"));
  ExpectTokensOfTheirOwn(*OpenTinyModel("olmo2"));
}

// A tiny model as 8-bit floats.
std::unique_ptr<ModelFile> OpenTinyFp8(const std::string& name) {
  auto file = OpenModel(std::string(TESSERA_SOURCE_DIR) + "/tests/golden/tiny_models/" + name,
                        LoadFormat::kAuto, Quantization::kFp8);
  EXPECT_TRUE(file.ok()) << file.status();
  return file.ok() ? *std::move(file) : nullptr;
}

// A model of floats whose matrices are kept as bfloat16.
class BFloat16Model : public ModelFile {
 public:
  explicit BFloat16Model(std::unique_ptr<ModelFile> floats)
      : floats_(std::move(floats)), description_(floats_->description()) {
    for (v1::TensorDescription& tensor : *description_.mutable_tensors()) {
      if (tensor.shape_size() < 2) continue;
      tensor.set_type(v1::DATA_TYPE_BF16);
      tensor.set_resident_bytes(tensor.resident_bytes() / 2);
    }
  }
  const v1::ModelDescription& description() const override { return description_; }
  absl::Status ReadSlice(absl::string_view tensor, int64_t row_begin, int64_t row_end,
                         int64_t col_begin, int64_t col_end, void* out) const override {
    const bool is_vector = absl::StrContains(tensor, "norm");
    std::vector<float> floats((row_end - row_begin) * (col_end - col_begin));
    absl::Status read = floats_->ReadSlice(tensor, row_begin, row_end, col_begin, col_end,
                                           is_vector ? out : floats.data());
    if (is_vector || !read.ok()) return read;
    for (size_t i = 0; i < floats.size(); ++i) {
      static_cast<uint16_t*>(out)[i] = kernels::FloatToBFloat16(floats[i]);
    }
    return absl::OkStatus();
  }

 private:
  const std::unique_ptr<ModelFile> floats_;
  v1::ModelDescription description_;
};

// Matrices that the library multiplies, in long steps and in short ones, by algorithms that the
// stub chooses by the number of rows.
TEST(GpuEngineTest, TokensThroughTheLibraryDoNotDependOnBatchChunksOrReplay) {
  const BFloat16Model bfloat16(OpenTinyModel("llama"));
  const auto fp8 = OpenTinyFp8("qwen3");
  for (const ModelFile* file : std::vector<const ModelFile*>{&bfloat16, fp8.get()}) {
    ASSERT_NE(file, nullptr);
    gpu_stubs::ForgetLibraryCalls();
    ExpectTokensOfTheirOwn(*file);
    EXPECT_FALSE(gpu_stubs::LibraryProducts().empty());
  }
}

// A step long enough for cuBLASLt.
TEST(GpuEngineTest, LargeProductsThroughTheLibraryAreNear) {
  const auto file = OpenTinyModel("llama");
  const int32_t vocab = file->description().architecture().vocab_size();
  const std::vector<GenerationRequest> requests = EightPrompts(vocab, 1, /*return_logits=*/true);
  const auto ours = GenerateOnGpu(*file, requests, {}, /*deterministic=*/true);
  const auto library = GenerateOnGpu(*file, requests, {}, /*deterministic=*/false);
  ASSERT_EQ(ours.size(), library.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    ExpectNear(library[i].logits, ours[i].logits, "prompt " + std::to_string(i));
  }
}

// Weights keep 3 bits of mantissa: what that rounding moves the logits of these small, random
// models by: 0.05 and 0.09 of their size on average.
TEST(GpuEngineTest, EightBitFloatsAreNearTheWeightsTheyCameFrom) {
  for (const std::string name : {"llama", "qwen3"}) {
    const auto file = OpenTinyFp8(name);
    ASSERT_NE(file, nullptr);
    const TinyGolden golden = LoadTinyGolden(name);
    const auto results =
        GenerateOnGpu(*file, {{.prompt = golden.prompts[0], .return_logits = true}});
    ASSERT_EQ(results.size(), 1u);
    EXPECT_LE(RootMeanSquare(results[0].logits, golden.logits[0]), 0.2) << name;
    EXPECT_GE(RootMeanSquare(results[0].logits, golden.logits[0]), 0.02)
        << name << ": nothing was rounded";
  }
}

// Prompts go through the library: on Hopper with inputs rounded to 8-bit floats too (which moves
// the logits by about 0.1 more), on other cards not.
TEST(GpuEngineTest, EightBitProductsThroughTheLibraryAreNear) {
  const auto file = OpenTinyFp8("qwen3");
  ASSERT_NE(file, nullptr);
  const int32_t vocab = file->description().architecture().vocab_size();
  const std::vector<GenerationRequest> requests = EightPrompts(vocab, 1, /*return_logits=*/true);
  const auto hopper = GenerateOnGpu(*file, requests, {}, /*deterministic=*/false);
  setenv("TESSERA_STUB_CAPABILITY", "8", 1);
  const auto ours = GenerateOnGpu(*file, requests, {}, /*deterministic=*/true);
  const auto ampere = GenerateOnGpu(*file, requests, {}, /*deterministic=*/false);
  unsetenv("TESSERA_STUB_CAPABILITY");
  ASSERT_EQ(ours.size(), hopper.size());
  ASSERT_EQ(ours.size(), ampere.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    const std::string what = "prompt " + std::to_string(i);
    ExpectNear(ampere[i].logits, ours[i].logits, what);
    EXPECT_LE(RootMeanSquare(hopper[i].logits, ours[i].logits), 0.2) << what;
    EXPECT_NE(hopper[i].logits, ampere[i].logits) << what;
  }
}

TEST(GpuEngineTest, ACpuRefusesEightBitFloats) {
  const auto file = OpenTinyFp8("llama");
  ASSERT_NE(file, nullptr);
  const v1::ShardPlan plan = PlanOf(*file, 1, 1);
  GenerationScript script(plan, {}, {});
  const absl::Status status = RunInProcessGroup(*file, plan, &script, {});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("weights of type F8_E4M3: only cuda has them"));
}

TEST(GpuEngineTest, AGpuThatIsNotThereIsNamed) {
  const auto file = OpenTinyModel("llama");
  const v1::ShardPlan plan = PlanOf(*file, 1, 1);
  GenerationScript script(plan, {}, {});
  InProcessGroupOptions group;
  group.engine.device = "cuda";
  group.engine.device_options.gpu = 17;
  const absl::Status status = RunInProcessGroup(*file, plan, &script, group);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("cuda device 17: this machine has GPUs 0 .. 3"));
}

}  // namespace
}  // namespace tessera::worker
