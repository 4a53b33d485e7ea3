#include "coordinator/engine/validate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "google/rpc/error_details.pb.h"

namespace tessera::coordinator {
namespace {

using ::testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();

// The field that the status's BadRequest detail names.
std::string FieldOf(const absl::Status& status) {
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  google::rpc::BadRequest detail;
  if (!payload || !detail.ParseFromString(std::string(*payload))) return {};
  if (detail.field_violations_size() != 1) return {};
  return detail.field_violations(0).field();
}

struct Refusal {
  const char* name;
  std::function<void(v1::SamplingOptions&)> change;
  const char* field;
  const char* message;
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.name; }

class RefusedSampling : public ::testing::TestWithParam<Refusal> {};

TEST_P(RefusedSampling, NamesTheFieldAndTheRange) {
  v1::SamplingOptions options;
  GetParam().change(options);
  const auto checked = CheckSampling(options, {.context_tokens = 100});
  EXPECT_EQ(checked.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(checked.status()), GetParam().field);
  EXPECT_THAT(std::string(checked.status().message()), HasSubstr(GetParam().message));
}

const Refusal kRefusals[] = {
    {"temperature_nan", [](auto& o) { o.set_temperature(NAN); }, "sampling.temperature",
     "is NaN; expected 0 .. 100"},
    {"temperature_inf", [](auto& o) { o.set_temperature(kInf); }, "sampling.temperature",
     "is inf; expected 0 .. 100"},
    {"temperature_negative", [](auto& o) { o.set_temperature(-0.1f); }, "sampling.temperature",
     "is -0.1; expected 0 .. 100"},
    {"temperature_high", [](auto& o) { o.set_temperature(100.5f); }, "sampling.temperature",
     "is 100.5"},
    {"top_p_zero", [](auto& o) { o.set_top_p(0); }, "sampling.top_p",
     "is 0; expected more than 0 .. 1"},
    {"top_p_high", [](auto& o) { o.set_top_p(1.01f); }, "sampling.top_p", "is 1.01"},
    {"top_p_nan", [](auto& o) { o.set_top_p(NAN); }, "sampling.top_p", "is NaN"},
    {"min_p_negative", [](auto& o) { o.set_min_p(-1); }, "sampling.min_p",
     "is -1; expected 0 .. 1"},
    {"min_p_nan", [](auto& o) { o.set_min_p(NAN); }, "sampling.min_p", "is NaN"},
    {"top_k", [](auto& o) { o.set_top_k(-2); }, "sampling.top_k", "is -2; expected -1 .. 16777216"},
    {"max_tokens_zero", [](auto& o) { o.set_max_tokens(0); }, "sampling.max_tokens",
     "is 0; expected 1 .. 16777216"},
    {"max_tokens_negative", [](auto& o) { o.set_max_tokens(-5); }, "sampling.max_tokens", "is -5"},
    {"logprobs_negative", [](auto& o) { o.set_logprobs(-1); }, "sampling.logprobs",
     "is -1; expected 0 .. 20"},
    {"logprobs_many", [](auto& o) { o.set_logprobs(21); }, "sampling.logprobs", "is 21"},
    {"stop_count",
     [](auto& o) {
       for (int i = 0; i < 17; ++i) o.add_stop(std::string(1, 'x'));
     },
     "sampling.stop", "has 17 entries; expected at most 16"},
    {"stop_empty",
     [](auto& o) {
       o.add_stop(std::string(1, 'a'));
       o.add_stop();
     },
     "sampling.stop[1]", "has 0 bytes; expected 1 .. 1024"},
    {"stop_long", [](auto& o) { o.add_stop(std::string(1025, 'x')); }, "sampling.stop[0]",
     "has 1025 bytes"},
};

INSTANTIATE_TEST_SUITE_P(Validate, RefusedSampling, ::testing::ValuesIn(kRefusals),
                         [](const auto& test) { return test.param.name; });

TEST(Validate, FieldsLeftOutGetTheirDefaults) {
  const auto checked =
      CheckSampling(v1::SamplingOptions(), {.seed = 7, .prompt_tokens = 30, .context_tokens = 100});
  ASSERT_TRUE(checked.ok()) << checked.status();
  EXPECT_EQ(checked->params.temperature(), 1);
  EXPECT_EQ(checked->params.top_k(), 0);
  EXPECT_EQ(checked->params.top_p(), 1);
  EXPECT_EQ(checked->params.min_p(), 0);
  EXPECT_EQ(checked->params.seed(), 7u);
  EXPECT_EQ(checked->params.num_logprobs(), -1);
  EXPECT_EQ(checked->max_tokens, 70);  // what the context leaves
  EXPECT_FALSE(checked->ignore_eos);
}

TEST(Validate, ZeroMeansZeroAndBoundsAreAllowed) {
  v1::SamplingOptions options;
  options.set_temperature(0);
  options.set_top_k(-1);
  options.set_top_p(1);
  options.set_min_p(1);
  options.set_seed(0);
  options.set_logprobs(0);
  options.set_max_tokens(1000);
  for (int i = 0; i < 16; ++i) options.add_stop(std::string(1024, 's'));
  const auto checked =
      CheckSampling(options, {.seed = 7, .prompt_tokens = 99, .context_tokens = 100});
  ASSERT_TRUE(checked.ok()) << checked.status();
  EXPECT_EQ(checked->params.temperature(), 0);
  EXPECT_EQ(checked->params.top_k(), 0);
  EXPECT_EQ(checked->params.seed(), 0u);
  EXPECT_EQ(checked->params.num_logprobs(), 0);
  EXPECT_EQ(checked->max_tokens, 1);
  EXPECT_EQ(checked->stop.size(), 16u);
}

TEST(Validate, StopStringsNeedATokenizer) {
  v1::SamplingOptions options;
  options.add_stop(std::string(1, 'x'));
  const auto checked = CheckSampling(options, {.context_tokens = 10, .has_tokenizer = false});
  EXPECT_EQ(FieldOf(checked.status()), "sampling.stop");
}

TEST(Validate, PromptsMustFitAndHoldKnownIds) {
  const PromptLimits limits{.vocab_size = 50, .context_tokens = 8};
  EXPECT_TRUE(CheckPrompt(std::vector<int32_t>(7, 49), "prompt", limits).ok());
  EXPECT_THAT(std::string(CheckPrompt({}, "prompt", limits).message()),
              HasSubstr("prompt is empty"));
  const absl::Status too_long = CheckPrompt(std::vector<int32_t>(8, 0), "messages", limits);
  EXPECT_EQ(FieldOf(too_long), "messages");
  EXPECT_THAT(std::string(too_long.message()), HasSubstr("has 8 tokens; expected at most 7"));
  for (const int32_t bad : {-1, 50, std::numeric_limits<int32_t>::max()}) {
    const absl::Status status = CheckPrompt({1, bad}, "prompt", limits);
    EXPECT_EQ(FieldOf(status), "token_ids.ids[1]");
    EXPECT_THAT(std::string(status.message()), HasSubstr("expected 0 .. 49"));
  }
}

TEST(Validate, TheContextIsWhatModelAndKvBlocksHold) {
  v1::ModelDescription model;
  model.mutable_architecture()->set_vocab_size(5);
  v1::ShardPlan plan;
  plan.set_max_model_len(100);
  plan.set_kv_block_tokens(16);
  plan.set_num_kv_blocks(100);
  EXPECT_EQ(LimitsOf(model, plan).context_tokens, 100);
  plan.set_num_kv_blocks(3);
  EXPECT_EQ(LimitsOf(model, plan).context_tokens, 48);
}

TEST(Validate, RequestIdsAreShortAndPrintable) {
  EXPECT_TRUE(CheckRequestId("").ok());
  EXPECT_TRUE(CheckRequestId(std::string(128, 'r')).ok());
  EXPECT_FALSE(CheckRequestId(std::string(129, 'r')).ok());
  EXPECT_FALSE(CheckRequestId("a\nb").ok());
}

}  // namespace
}  // namespace tessera::coordinator
