// Models whose layers differ from each other or from Llama's: the same numbers however a step is made
// up and cut over ranks, and what no worker computes is refused by name.
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/in_process_group.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

class LayerKindsTest : public testing::TestWithParam<std::string> {};

TEST_P(LayerKindsTest, NumbersDoNotDependOnBatchOrChunks) {
  const auto file = OpenTinyModel(GetParam());
  const v1::ShardPlan plan = PlanOf(*file, 2, 2);
  const auto requests =
      EightPrompts(file->description().architecture().vocab_size(), 8, /*return_logits=*/true);
  const auto together = Generate(*file, plan, requests);
  const auto in_chunks = Generate(*file, plan, requests, {.prompt_chunk = 5});
  ASSERT_EQ(together.size(), requests.size());
  ASSERT_EQ(in_chunks.size(), requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(in_chunks[i].logits, together[i].logits) << "prompt " << i;
    if (i % 3 != 0) continue;
    const auto alone = Generate(*file, plan, {requests[i]});
    ASSERT_EQ(alone.size(), 1u);
    EXPECT_EQ(alone[0].tokens, together[i].tokens) << "prompt " << i;
    EXPECT_EQ(alone[0].logits, together[i].logits) << "prompt " << i;
  }
}

// Sums over ranks are taken in double: how heads are cut shows in a rare last bit at most.
TEST_P(LayerKindsTest, HowHeadsAreCutHardlyShows) {
  const auto file = OpenTinyModel(GetParam());
  const auto requests =
      EightPrompts(file->description().architecture().vocab_size(), 8, /*return_logits=*/true);
  const auto expected = Generate(*file, PlanOf(*file, 1, 1), requests);
  for (auto [tp, pp] : {std::pair{2, 1}, {3, 1}, {2, 2}}) {
    const auto actual = Generate(*file, PlanOf(*file, tp, pp), requests);
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_LE(RelativeDifference(actual[i].logits, expected[i].logits), 2e-6)
          << tp << "x" << pp << ", prompt " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, LayerKindsTest,
                         testing::Values("qwen3_windows", "smollm3_pattern", "granite", "olmo2",
                                         "phi3_partial"),
                         [](const auto& test) { return test.param; });

// A model file that says something else about its layers.
class Changed : public ModelFile {
 public:
  Changed(std::unique_ptr<ModelFile> base, const std::function<void(v1::Architecture&)>& change)
      : base_(std::move(base)), description_(base_->description()) {
    change(*description_.mutable_architecture());
  }
  const v1::ModelDescription& description() const override { return description_; }
  absl::Status ReadSlice(absl::string_view tensor, int64_t row_begin, int64_t row_end,
                         int64_t col_begin, int64_t col_end, void* out) const override {
    return base_->ReadSlice(tensor, row_begin, row_end, col_begin, col_end, out);
  }

 private:
  const std::unique_ptr<ModelFile> base_;
  v1::ModelDescription description_;
};

std::string RefusalOf(const std::function<void(v1::Architecture&)>& change) {
  auto base = OpenTinyModel("qwen3_windows");
  const v1::ShardPlan plan = PlanOf(*base, 1, 1);
  const Changed file(std::move(base), change);
  GenerationScript script(plan, {}, {});
  const absl::Status status = RunInProcessGroup(file, plan, &script, {});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
  return std::string(status.message());
}

TEST(LayerKindsRefusalTest, WhatNoWorkerComputes) {
  EXPECT_THAT(RefusalOf([](v1::Architecture& arch) {
                arch.mutable_layer_kinds(1)->mutable_attention()->mutable_rope()->set_theta(5);
              }),
              testing::HasSubstr("layers with different rotary embeddings"));
  const struct {
    const char* field;
    std::function<void(v1::LayerConfig&)> ask;
  } parts[] = {
      {"attention.logit_soft_cap",
       [](v1::LayerConfig& kind) { kind.mutable_attention()->set_logit_soft_cap(50); }},
      {"attention.sinks", [](v1::LayerConfig& kind) { kind.mutable_attention()->set_sinks(true); }},
      {"attention.output_bias",
       [](v1::LayerConfig& kind) { kind.mutable_attention()->set_output_bias(true); }},
      {"feed_forward.bias",
       [](v1::LayerConfig& kind) { kind.mutable_feed_forward()->set_bias(true); }},
      {"feed_forward.kind",
       [](v1::LayerConfig& kind) {
         kind.mutable_feed_forward()->set_kind(v1::FeedForwardConfig::KIND_PLAIN);
       }},
      {"feed_forward.activation", [](v1::LayerConfig& kind) {
         kind.mutable_feed_forward()->set_activation(v1::FeedForwardConfig::ACTIVATION_GELU);
       }}};
  for (const auto& part : parts) {
    EXPECT_THAT(RefusalOf([&](v1::Architecture& arch) { part.ask(*arch.mutable_layer_kinds(1)); }),
                testing::HasSubstr(
                    absl::StrCat("layer_kinds[1].", part.field, " is not supported")));
  }
}

}  // namespace
}  // namespace tessera::worker
