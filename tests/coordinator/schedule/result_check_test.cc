#include "coordinator/schedule/result_check.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera::coordinator {
namespace {

using ::testing::HasSubstr;

constexpr int kVocab = 10;

constexpr int64_t kStep = 3;

// Sequences 7 (samples, two alternatives), 8 (mid-prompt, wants logits and prompt logprobs), 9
// (samples).
std::vector<ExpectedChunk> Plan() {
  return {{.sequence_id = 7, .tokens = 2, .samples = true, .num_logprobs = 2},
          {.sequence_id = 8,
           .tokens = 2,
           .logits = true,
           .prompt_logprob_ids = {4, 5},
           .num_prompt_logprobs = 1},
          {.sequence_id = 9, .tokens = 2, .samples = true, .num_logprobs = -1}};
}

absl::Status Check(const v1::StepResult& result, int vocab_size) {
  return CheckStepResult(kStep, Plan(), result, vocab_size);
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
  v1::ChunkPromptLogprobs* targets = result.add_prompt_logprobs();
  targets->set_sequence_id(8);
  for (const int32_t id : {4, 5}) {
    v1::PromptLogprob* target = targets->add_prompt_logprobs();
    target->set_token_id(id);
    target->set_logprob(-2.0f);
    target->set_vocab_rank(kVocab);
    target->add_top_ids(1);
    target->add_top_logprobs(-0.1f);
  }
  return result;
}

TEST(ResultCheckTest, AcceptsAnAnswerToThePlan) {
  EXPECT_EQ(Check(Result(), kVocab), absl::OkStatus());
  EXPECT_EQ(Check(Result(), 0), absl::OkStatus());
}

TEST(ResultCheckTest, AWithoutVocabularyAnyIdGoes) {
  v1::StepResult result = Result();
  result.mutable_tokens(1)->set_token_id(1'000'000);
  EXPECT_EQ(Check(result, 0), absl::OkStatus());
  EXPECT_FALSE(Check(result, kVocab).ok());
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
      {"has 0 lists of targets; expected 1", [](auto* r) { r->clear_prompt_logprobs(); }},
      {"has 2 lists of targets; expected 1", [](auto* r) { r->add_prompt_logprobs(); }},
      {"targets are for sequence 7",
       [](auto* r) { r->mutable_prompt_logprobs(0)->set_sequence_id(7); }},
      {"1 targets; expected 2",
       [](auto* r) { r->mutable_prompt_logprobs(0)->mutable_prompt_logprobs()->RemoveLast(); }},
      {"target is token 5; expected 4",
       [](auto* r) { r->mutable_prompt_logprobs(0)->mutable_prompt_logprobs(0)->set_token_id(5); }},
      {"log probability nan",
       [&](auto* r) {
         r->mutable_prompt_logprobs(0)->mutable_prompt_logprobs(1)->set_logprob(nan);
       }},
      {"target is at rank 0; expected at least 1",
       [](auto* r) {
         r->mutable_prompt_logprobs(0)->mutable_prompt_logprobs(0)->set_vocab_rank(0);
       }},
      {"target is at rank 11",
       [](auto* r) {
         r->mutable_prompt_logprobs(0)->mutable_prompt_logprobs(0)->set_vocab_rank(11);
       }},
      {"2 alternatives with 1 log probabilities; expected at most 1",
       [](auto* r) { r->mutable_prompt_logprobs(0)->mutable_prompt_logprobs(0)->add_top_ids(2); }},
      {"token id -2",
       [](auto* r) {
         r->mutable_prompt_logprobs(0)->mutable_prompt_logprobs(1)->set_top_ids(0, -2);
       }},
  };
  for (const auto& [says, lie] : lies) {
    v1::StepResult result = Result();
    lie(&result);
    const absl::Status status = Check(result, kVocab);
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << says;
    EXPECT_THAT(std::string(status.message()), HasSubstr(says));
    EXPECT_THAT(std::string(status.message()), HasSubstr("result of step 3"));
  }
}

}  // namespace
}  // namespace tessera::coordinator
