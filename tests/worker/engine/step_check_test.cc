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

constexpr int32_t kVocab = 50;

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
  first.mutable_logits_state()->add_output_ids(3);
  v1::SequenceChunk& second = *step.add_chunks();
  second.set_sequence_id(2);
  second.set_start_position(3);
  second.add_token_ids(49);
  second.add_block_table(5);
  return step;
}

TEST(StepCheckTest, AcceptsAGoodStepAgainAndAgain) {
  StepChecker checker(Plan(), kVocab);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(checker.Check(GoodStep()).ok());
}

v1::SequenceChunk& Chunk(v1::StepPlan& step, int i) { return *step.mutable_chunks(i); }
v1::SamplingParams& Sampling(v1::StepPlan& step) { return *Chunk(step, 0).mutable_sampling(); }
v1::LogitsState& LogitsStateOf(v1::StepPlan& step) { return *Chunk(step, 0).mutable_logits_state(); }

void AddCopy(v1::StepPlan& step, int source, int destination) {
  v1::BlockCopy& copy = *step.add_copies();
  copy.set_source(source);
  copy.set_destination(destination);
}

TEST(StepCheckTest, BlocksThatAreOnlyReadMayBeShared) {
  StepChecker checker(Plan(), kVocab);
  v1::StepPlan step = GoodStep();
  // Both sequences begin with block 0; each writes a block of its own.
  Chunk(step, 0).set_start_position(16);
  Chunk(step, 0).mutable_token_ids()->Truncate(4);
  Chunk(step, 1).set_start_position(16);
  Chunk(step, 1).set_block_table(0, 0);
  Chunk(step, 1).add_block_table(5);
  EXPECT_TRUE(checker.Check(step).ok()) << checker.Check(step);
  AddCopy(step, 7, 5);
  AddCopy(step, 5, 1);  // in order: what was just copied
  EXPECT_TRUE(checker.Check(step).ok()) << checker.Check(step);

  // One position earlier, the second chunk writes the shared block.
  Chunk(step, 1).set_start_position(15);
  Chunk(step, 1).add_token_ids(1);
  EXPECT_THAT(std::string(checker.Check(step).message()),
              HasSubstr("chunk 1 (sequence 2): block_table: expected to write no KV block that "
                        "another chunk names, got block 0, which chunk 0 names"));
}

TEST(StepCheckTest, EverythingThatMayBeAskedAtOnce) {
  StepChecker checker(Plan(), kVocab);
  v1::StepPlan step = GoodStep();
  v1::SamplingParams& sampling = Sampling(step);
  sampling.set_repetition_penalty(1.3f);
  sampling.set_presence_penalty(-2);
  sampling.set_frequency_penalty(2);
  for (int id : {0, 49}) {
    sampling.add_bias_ids(id);
    sampling.add_bias_values(-100);
    LogitsStateOf(step).add_banned_ids(id);
    LogitsStateOf(step).add_prompt_ids(id);
    for (int i = 0; i < 2; ++i) LogitsStateOf(step).add_output_ids(id);
  }
  LogitsStateOf(step).set_allowed_mask(std::string("\0\0\0\x80\0\0\0", 7));
  for (int i = 0; i < 20; ++i) Chunk(step, 0).add_prompt_logprob_ids(i % 2 == 0 ? -1 : 49);
  Chunk(step, 0).set_num_prompt_logprobs(20);
  EXPECT_TRUE(checker.Check(step).ok()) << checker.Check(step);
}

struct BadStep {
  const char* names;  // what the message must name
  std::function<void(v1::StepPlan&)> spoil;
};

TEST(StepCheckTest, RefusesNamingTheField) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
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
      {"block 1, which chunk 0 writes",
       [](auto& s) { s.mutable_chunks(1)->set_block_table(0, 1); }},
      {"block 0 twice", [](auto& s) { s.mutable_chunks(0)->set_block_table(1, 0); }},
      {"temperature",
       [=](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_temperature(nan); }},
      {"temperature",
       [](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_temperature(-1); }},
      {"temperature: expected 0 .. 100, got 101", [](auto& s) { Sampling(s).set_temperature(101); }},
      {"top_k", [](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_top_k(-1); }},
      {"top_k", [](auto& s) { Sampling(s).set_top_k(2147483647); }},
      {"top_p", [=](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_top_p(nan); }},
      {"top_p", [](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_top_p(1.5f); }},
      {"min_p", [](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_min_p(-0.5f); }},
      {"num_logprobs",
       [](auto& s) { s.mutable_chunks(0)->mutable_sampling()->set_num_logprobs(51); }},
      {"repetition_penalty", [=](auto& s) { Sampling(s).set_repetition_penalty(nan); }},
      {"repetition_penalty", [=](auto& s) { Sampling(s).set_repetition_penalty(inf); }},
      {"repetition_penalty", [](auto& s) { Sampling(s).set_repetition_penalty(-1); }},
      {"repetition_penalty", [](auto& s) { Sampling(s).set_repetition_penalty(100.5f); }},
      {"presence_penalty", [=](auto& s) { Sampling(s).set_presence_penalty(-inf); }},
      {"presence_penalty: expected -2 .. 2",
       [](auto& s) { Sampling(s).set_presence_penalty(2.5f); }},
      {"frequency_penalty", [=](auto& s) { Sampling(s).set_frequency_penalty(nan); }},
      {"bias_values: expected one for each of 1 ids, got 0",
       [](auto& s) { Sampling(s).add_bias_ids(3); }},
      {"bias_values: expected one for each of 0 ids, got 1",
       [](auto& s) { Sampling(s).add_bias_values(3); }},
      {"bias_values: expected -100 .. 100, got inf",
       [=](auto& s) {
         Sampling(s).add_bias_ids(3);
         Sampling(s).add_bias_values(inf);
       }},
      {"bias_ids: expected distinct ids, got 3 twice",
       [](auto& s) {
         for (int i = 0; i < 2; ++i) Sampling(s).add_bias_ids(3);
         for (int i = 0; i < 2; ++i) Sampling(s).add_bias_values(1);
       }},
      {"bias_ids: expected 0 .. 49, got 50",
       [](auto& s) {
         Sampling(s).add_bias_ids(50);
         Sampling(s).add_bias_values(1);
       }},
      {"prompt_ids: expected 0 .. 49, got -1", [](auto& s) { LogitsStateOf(s).add_prompt_ids(-1); }},
      {"prompt_ids: expected distinct ids, got 7 twice",
       [](auto& s) {
         for (int i = 0; i < 2; ++i) LogitsStateOf(s).add_prompt_ids(7);
       }},
      {"output_ids: expected 0 .. 49, got 50", [](auto& s) { LogitsStateOf(s).add_output_ids(50); }},
      {"output_ids: expected at most 100, got 101",
       [](auto& s) {
         for (int i = 0; i < 100; ++i) LogitsStateOf(s).add_output_ids(7);
       }},
      {"banned_ids: expected 0 .. 49, got 2147483647",
       [](auto& s) { LogitsStateOf(s).add_banned_ids(2147483647); }},
      {"allowed_mask: expected none or 7 bytes, got 6",
       [](auto& s) { LogitsStateOf(s).set_allowed_mask(std::string(6, '\xff')); }},
      {"allowed_mask: expected none or 7 bytes, got 8",
       [](auto& s) { LogitsStateOf(s).set_allowed_mask(std::string(8, '\xff')); }},
      {"a token that may be sampled, got none",
       [](auto& s) { LogitsStateOf(s).set_allowed_mask(std::string("\0\0\0\0\0\0\xfc", 7)); }},
      {"a token that may be sampled, got none",
       [](auto& s) {
         LogitsStateOf(s).set_allowed_mask(std::string("\0\0\0\0\0\0\1", 7));
         LogitsStateOf(s).add_banned_ids(48);
       }},
      {"a token that may be sampled, got none",
       [](auto& s) {
         for (int id = 0; id < 50; ++id) LogitsStateOf(s).add_banned_ids(id);
       }},
      {"last_token_from_step: expected 0",
       [](auto& s) { Chunk(s, 1).set_last_token_from_step(3); }},
      {"num_prompt_logprobs: expected 0 .. 20, got 21",
       [](auto& s) { Chunk(s, 0).set_num_prompt_logprobs(21); }},
      {"num_prompt_logprobs: expected 0 .. 20, got -1",
       [](auto& s) { Chunk(s, 0).set_num_prompt_logprobs(-1); }},
      {"prompt_logprob_ids: expected none or one for each of 1 tokens, got 2",
       [](auto& s) {
         for (int i = 0; i < 2; ++i) Chunk(s, 1).add_prompt_logprob_ids(0);
       }},
      {"prompt_logprob_ids: expected 0 .. 49, got 50",
       [](auto& s) { Chunk(s, 1).add_prompt_logprob_ids(50); }},
      {"prompt_logprob_ids: expected 0 .. 49, got -2",
       [](auto& s) { Chunk(s, 1).add_prompt_logprob_ids(-2); }},
      {"copy 0: block: expected 0 .. 9, got -1", [](auto& s) { AddCopy(s, -1, 5); }},
      {"copy 0: block: expected 0 .. 9, got 10", [](auto& s) { AddCopy(s, 7, 10); }},
      {"copy 0: destination: expected another block", [](auto& s) { AddCopy(s, 5, 5); }},
      {"copy 0: destination: expected a block that a chunk of the step writes",
       [](auto& s) { AddCopy(s, 5, 7); }},
      {"copy 1: destination: expected each block once",
       [](auto& s) {
         AddCopy(s, 7, 5);
         AddCopy(s, 8, 5);
       }},
      {"copy 0: destination: expected a block that a chunk of the step writes",
       [](auto& s) {  // block 0 is only read once the first chunk starts behind it
         Chunk(s, 0).set_start_position(16);
         Chunk(s, 0).mutable_token_ids()->Truncate(16);
         AddCopy(s, 7, 0);
       }},
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

TEST(StepCheckTest, TheLastTokenMayBeAPlaceholderOfTheStepBefore) {
  StepChecker checker(Plan(), kVocab);
  const auto fed = [](int32_t id, int64_t step_id) {
    v1::StepPlan step = GoodStep();
    Chunk(step, 0).set_token_ids(19, id);
    Chunk(step, 0).set_last_token_from_step(step_id);
    return step;
  };
  const PendingTokens before{.step_id = 76, .count = 3};
  for (size_t sample : {0, 1, 2}) {
    EXPECT_TRUE(checker.Check(fed(PlaceholderToken(sample), 76), before).ok()) << sample;
  }
  struct Case {
    const char* says;
    v1::StepPlan step;
    PendingTokens before;
  };
  v1::StepPlan not_last = fed(PlaceholderToken(0), 76);
  Chunk(not_last, 0).set_token_ids(18, PlaceholderToken(0));
  const int32_t least = std::numeric_limits<int32_t>::min();
  for (const Case& bad :
       {Case{"one of the 3 tokens of step 76, got -4", fed(PlaceholderToken(3), 76), before},
        Case{"one of the 3 tokens of step 76, got -2147483648", fed(least, 76), before},
        Case{"one of the 3 tokens of step 76, got 5", fed(5, 76), before},
        Case{"last_token_from_step: expected 0", fed(PlaceholderToken(0), 75), before},
        Case{"last_token_from_step: expected 0", fed(PlaceholderToken(0), 76), PendingTokens{}},
        Case{"token id: expected 0 .. 49, got -1", fed(PlaceholderToken(0), 0), before},
        Case{"token id: expected 0 .. 49, got -1", not_last, before}}) {
    const absl::Status status = checker.Check(bad.step, bad.before);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.says;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.says));
  }
}

TEST(StepCheckTest, RefusesMoreLogitsThanAMessageHolds) {
  v1::ShardPlan plan = Plan();
  plan.set_max_tokens_per_step(1000);
  StepChecker checker(plan, 1 << 22);
  v1::StepPlan step = GoodStep();
  v1::SequenceChunk& chunk = Chunk(step, 0);
  chunk.set_return_logits(true);
  EXPECT_TRUE(checker.Check(step).ok());
  while (chunk.token_ids_size() < 70) chunk.add_token_ids(1);
  for (int block : {6, 7, 8}) chunk.add_block_table(block);
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
