// What a rank refuses to run, and in which words; and what it refuses to read.
#include "worker/engine/step_check.h"

#include <cstring>
#include <functional>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/engine/step_message.h"

namespace tessera::worker {
namespace {

using testing::HasSubstr;

v1::ShardPlan Plan() {
  v1::ShardPlan plan;
  plan.set_kv_block_tokens(16);
  plan.set_num_kv_blocks(10);
  plan.set_max_model_len(100);
  plan.set_max_tokens_per_step(40);
  plan.set_max_sequences_per_step(3);
  return plan;
}

// Sequence 1: positions 10..29 in blocks 0, 1; sequence 2: position 3 in block 5.
v1::StepPlan GoodStep() {
  v1::StepPlan step;
  step.set_step_id(77);
  v1::SequenceChunk& first = *step.add_chunks();
  first.set_sequence_id(1);
  first.set_start_position(10);
  for (int i = 0; i < 20; ++i) first.add_token_ids(i);
  first.add_block_table(0);
  first.add_block_table(1);
  first.mutable_sampling()->set_top_p(1);
  v1::SequenceChunk& second = *step.add_chunks();
  second.set_sequence_id(2);
  second.set_start_position(3);
  second.add_token_ids(49);
  second.add_block_table(5);
  return step;
}

constexpr int32_t kVocab = 50;

TEST(StepCheckTest, AcceptsAGoodStepAgainAndAgain) {
  StepChecker checker(Plan(), kVocab);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(checker.Check(GoodStep()).ok());
}

struct BadStep {
  const char* names;  // what the message must name
  std::function<void(v1::StepPlan&)> spoil;
};

TEST(StepCheckTest, RefusesNamingTheField) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const BadStep cases[] = {
      {"chunks", [](auto& s) { s.clear_chunks(); }},
      {"chunks",
       [](auto& s) {
         for (int i = 0; i < 2; ++i) *s.add_chunks() = s.chunks(1);
       }},
      {"token_ids", [](auto& s) { s.mutable_chunks(1)->clear_token_ids(); }},
      {"0 .. 49", [](auto& s) { s.mutable_chunks(1)->set_token_ids(0, 50); }},
      {"token id", [](auto& s) { s.mutable_chunks(1)->set_token_ids(0, -1); }},
      {"positions", [](auto& s) { s.mutable_chunks(0)->set_start_position(-1); }},
      {"[0, 100)", [](auto& s) { s.mutable_chunks(0)->set_start_position(81); }},
      {"positions", [](auto& s) { s.mutable_chunks(0)->set_start_position(2147483647); }},
      {"at least 2 blocks",
       [](auto& s) { s.mutable_chunks(0)->mutable_block_table()->RemoveLast(); }},
      {"0 .. 9", [](auto& s) { s.mutable_chunks(0)->set_block_table(0, 10); }},
      {"block", [](auto& s) { s.mutable_chunks(0)->set_block_table(0, -1); }},
      {"block 1 twice", [](auto& s) { s.mutable_chunks(1)->set_block_table(0, 1); }},
      {"block 0 twice", [](auto& s) { s.mutable_chunks(0)->set_block_table(1, 0); }},
      {"temperature",
       [=](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_temperature(nan); }},
      {"temperature",
       [](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_temperature(-1); }},
      {"top_k", [](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_top_k(-1); }},
      {"top_p", [=](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_top_p(nan); }},
      {"top_p", [](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_top_p(1.5f); }},
      {"min_p", [](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_min_p(-0.5f); }},
      {"num_logprobs",
       [](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_num_logprobs(51); }},
      {"tokens: expected at most 40",
       [](auto& s) {
         for (int i = 0; i < 20; ++i) s.mutable_chunks(0)->add_token_ids(0);
         for (int b : {2, 3}) s.mutable_chunks(0)->add_block_table(b);
       }},
  };
  StepChecker checker(Plan(), kVocab);
  for (const BadStep& bad : cases) {
    v1::StepPlan step = GoodStep();
    bad.spoil(step);
    const absl::Status status = checker.Check(step);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.names;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.names));
    EXPECT_THAT(std::string(status.message()), HasSubstr("step 77"));
    EXPECT_TRUE(checker.Check(GoodStep()).ok()) << "after " << bad.names;
  }
}

TEST(StepCheckTest, RefusesMoreLogitsThanAMessageHolds) {
  v1::ShardPlan plan = Plan();
  plan.set_max_tokens_per_step(1000);
  StepChecker checker(plan, 1 << 27);
  v1::StepPlan step = GoodStep();
  step.mutable_chunks(0)->set_return_logits(true);
  EXPECT_THAT(std::string(checker.Check(step).message()), HasSubstr("return_logits"));
}

TEST(StepMessageTest, RoundTrips) {
  const std::vector<float> activations = {1.5f, -2.0f, 3.25f};
  auto message =
      StepMessage::Decode(EncodeStepMessage(StepMessageKind::kStep, "header", activations));
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->kind(), StepMessageKind::kStep);
  EXPECT_EQ(message->header(), "header");
  ASSERT_EQ(message->activations().size(), sizeof(float) * activations.size());
  EXPECT_EQ(
      std::memcmp(message->activations().data(), activations.data(), message->activations().size()),
      0);
}

TEST(StepMessageTest, RefusesEveryTruncationOfThePrefixAndBadKinds) {
  const Bytes good = EncodeStepMessage(StepMessageKind::kAbort, "why");
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(StepMessage::Decode(Bytes(good.begin(), good.begin() + size)).status().code(),
              absl::StatusCode::kInternal)
        << size;
  }
  for (size_t at : {size_t{0}, size_t{4}, size_t{15}}) {  // magic, kind, header length
    Bytes bad = good;
    bad[at] = std::byte{0xff};
    EXPECT_FALSE(StepMessage::Decode(bad).ok()) << at;
  }
}

}  // namespace
}  // namespace tessera::worker
