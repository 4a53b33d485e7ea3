#include "coordinator/schedule/result_check.h"

#include <functional>
#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera::coordinator {
namespace {

using ::testing::HasSubstr;

constexpr int kVocab = 10;

// Sequences 7 (samples, two alternatives), 8 (mid-prompt, wants logits), 9 (samples).
v1::StepPlan Plan() {
  v1::StepPlan plan;
  plan.set_step_id(3);
  for (const int64_t id : {7, 8, 9}) {
    v1::SequenceChunk* chunk = plan.add_chunks();
    chunk->set_sequence_id(id);
    chunk->add_token_ids(1);
    chunk->add_token_ids(2);
    if (id != 8) chunk->mutable_sampling()->set_num_logprobs(id == 7 ? 2 : -1);
    chunk->set_return_logits(id == 8);
  }
  return plan;
}

v1::StepResult Result() {
  v1::StepResult result;
  result.set_step_id(3);
  for (const int64_t id : {7, 9}) {
    v1::SampledToken* token = result.add_tokens();
    token->set_sequence_id(id);
    token->set_token_id(kVocab - 1);
    token->set_logprob(-0.5f);
  }
  for (int i = 0; i < 2; ++i) {
    result.mutable_tokens(0)->add_top_ids(i);
    result.mutable_tokens(0)->add_top_logprobs(-1.0f);
  }
  v1::ChunkLogits* logits = result.add_logits();
  logits->set_sequence_id(8);
  logits->set_num_tokens(2);
  logits->set_values(std::string(2 * kVocab * sizeof(float), '\0'));
  return result;
}

TEST(ResultCheckTest, AcceptsAnAnswerToThePlan) {
  EXPECT_EQ(CheckStepResult(Plan(), Result(), kVocab), absl::OkStatus());
  EXPECT_EQ(CheckStepResult(Plan(), Result(), 0), absl::OkStatus());
}

TEST(ResultCheckTest, AWithoutVocabularyAnyIdGoes) {
  v1::StepResult result = Result();
  result.mutable_tokens(1)->set_token_id(1'000'000);
  EXPECT_EQ(CheckStepResult(Plan(), result, 0), absl::OkStatus());
  EXPECT_FALSE(CheckStepResult(Plan(), result, kVocab).ok());
}

TEST(ResultCheckTest, RefusesEveryLie) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const struct {
    const char* says;
    std::function<void(v1::StepResult*)> lie;
  } lies[] = {
      {"has 0 tokens; expected 2", [](auto* r) { r->clear_tokens(); }},
      {"has 3 tokens; expected 2", [](auto* r) { r->add_tokens()->set_sequence_id(8); }},
      {"sequence 7: token is for sequence 9",
       [](auto* r) { r->mutable_tokens()->SwapElements(0, 1); }},
      {"sequence 9: token is for sequence 8",
       [](auto* r) { r->mutable_tokens(1)->set_sequence_id(8); }},
      {"token id -1; expected 0 .. 9", [](auto* r) { r->mutable_tokens(0)->set_token_id(-1); }},
      {"token id 10; expected 0 .. 9", [](auto* r) { r->mutable_tokens(0)->set_token_id(10); }},
      {"log probability nan", [&](auto* r) { r->mutable_tokens(1)->set_logprob(nan); }},
      {"log probability -inf", [&](auto* r) { r->mutable_tokens(1)->set_logprob(-infinity); }},
      {"token id 11", [](auto* r) { r->mutable_tokens(0)->set_top_ids(1, 11); }},
      {"log probability inf",
       [&](auto* r) { r->mutable_tokens(0)->set_top_logprobs(1, infinity); }},
      {"2 alternatives with 1 log",
       [](auto* r) { r->mutable_tokens(0)->mutable_top_logprobs()->RemoveLast(); }},
      {"1 alternatives with 1 log probabilities; expected at most 0",
       [](auto* r) {
         r->mutable_tokens(1)->add_top_ids(1);
         r->mutable_tokens(1)->add_top_logprobs(-1);
       }},
      {"has 0 blocks of logits; expected 1", [](auto* r) { r->clear_logits(); }},
      {"logits are for sequence 7", [](auto* r) { r->mutable_logits(0)->set_sequence_id(7); }},
      {"logits of 1 tokens; expected 2", [](auto* r) { r->mutable_logits(0)->set_num_tokens(1); }},
      {"79 bytes of logits; expected 80",
       [](auto* r) { r->mutable_logits(0)->mutable_values()->pop_back(); }},
  };
  for (const auto& [says, lie] : lies) {
    v1::StepResult result = Result();
    lie(&result);
    const absl::Status status = CheckStepResult(Plan(), result, kVocab);
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << says;
    EXPECT_THAT(std::string(status.message()), HasSubstr(says));
    EXPECT_THAT(std::string(status.message()), HasSubstr("result of step 3"));
  }
}

}  // namespace
}  // namespace tessera::coordinator
