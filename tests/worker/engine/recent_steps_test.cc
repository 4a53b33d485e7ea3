// Which plans may continue from a token that is still being sampled, and what is put in its place.
#include "worker/engine/recent_steps.h"

#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tessera::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Samples for sequences 1 and 2 and reads a part of sequence 3's prompt.
v1::StepPlan PlanOf(int64_t step_id) {
  v1::StepPlan plan;
  plan.set_step_id(step_id);
  for (int64_t sequence : {1, 2, 3}) {
    v1::SequenceChunk& chunk = *plan.add_chunks();
    chunk.set_sequence_id(sequence);
    chunk.add_token_ids(static_cast<int32_t>(10 * sequence));
    if (sequence != 3) chunk.mutable_sampling();
  }
  return plan;
}

v1::StepResult ResultOf(int64_t step_id) {
  v1::StepResult result;
  result.set_step_id(step_id);
  for (int64_t sequence : {1, 2}) {
    v1::SampledToken& token = *result.add_tokens();
    token.set_sequence_id(sequence);
    token.set_token_id(static_cast<int32_t>(100 * step_id + sequence));
  }
  return result;
}

// Sequence 2 continues from the step's token.
v1::StepPlan PlanAhead(int64_t from_step) {
  v1::StepPlan plan;
  plan.set_step_id(50);
  v1::SequenceChunk& chunk = *plan.add_chunks();
  chunk.set_sequence_id(2);
  chunk.add_token_ids(7);
  chunk.add_token_ids(-1);
  chunk.set_last_token_from_step(from_step);
  return plan;
}

TEST(RecentStepsTest, APlanWaitsForItsTokenAndGetsIt) {
  RecentSteps recent(2);
  recent.Begin(PlanOf(8));
  recent.Begin(PlanOf(9));
  v1::StepPlan plan = PlanAhead(9);
  EXPECT_EQ(recent.FillIn(plan).value(), false);
  ASSERT_TRUE(recent.End(ResultOf(8)).ok());
  EXPECT_EQ(recent.FillIn(plan).value(), false);
  EXPECT_EQ(plan.DebugString(), PlanAhead(9).DebugString());
  ASSERT_TRUE(recent.End(ResultOf(9)).ok());
  EXPECT_EQ(recent.FillIn(plan).value(), true);
  EXPECT_THAT(plan.chunks(0).token_ids(), ElementsAre(7, 902));
  EXPECT_EQ(plan.chunks(0).last_token_from_step(), 0);
  EXPECT_FALSE(plan.chunks(0).has_logits_state());
}

TEST(RecentStepsTest, NothingChangesUntilEveryTokenIsThere) {
  RecentSteps recent(2);
  recent.Begin(PlanOf(8));
  recent.Begin(PlanOf(9));
  ASSERT_TRUE(recent.End(ResultOf(8)).ok());
  v1::StepPlan plan = PlanAhead(8);
  *plan.add_chunks() = PlanAhead(9).chunks(0);
  plan.mutable_chunks(1)->set_sequence_id(1);
  const std::string before = plan.DebugString();
  EXPECT_EQ(recent.FillIn(plan).value(), false);
  EXPECT_EQ(plan.DebugString(), before);
  ASSERT_TRUE(recent.End(ResultOf(9)).ok());
  EXPECT_EQ(recent.FillIn(plan).value(), true);
  EXPECT_THAT(plan.chunks(0).token_ids(), ElementsAre(7, 802));
  EXPECT_THAT(plan.chunks(1).token_ids(), ElementsAre(7, 901));
}

TEST(RecentStepsTest, PenaltiesLearnOfTheToken) {
  RecentSteps recent(1);
  recent.Begin(PlanOf(8));
  ASSERT_TRUE(recent.End(ResultOf(8)).ok());
  v1::StepPlan plan = PlanAhead(8);
  plan.mutable_chunks(0)->mutable_sampling()->set_frequency_penalty(0.5f);
  plan.mutable_chunks(0)->mutable_logits_state()->add_output_ids(3);
  EXPECT_EQ(recent.FillIn(plan).value(), true);
  EXPECT_THAT(plan.chunks(0).logits_state().output_ids(), ElementsAre(3, 802));
}

TEST(RecentStepsTest, APlanBehindTheNewestStepIsGivenPlaceholders) {
  RecentSteps recent(1);
  EXPECT_EQ(recent.pending_tokens().step_id, 0);
  recent.Begin(PlanOf(8));
  ASSERT_TRUE(recent.End(ResultOf(8)).ok());
  EXPECT_EQ(recent.pending_tokens().step_id, 0);
  recent.Begin(PlanOf(9));
  EXPECT_EQ(recent.pending_tokens().step_id, 9);
  EXPECT_EQ(recent.pending_tokens().count, 2u);
  // Sequence 2 goes on from step 9, its second sample; sequence 1 from step 8, whose token is
  // known.
  v1::StepPlan plan = PlanAhead(9);
  *plan.add_chunks() = PlanAhead(8).chunks(0);
  plan.mutable_chunks(1)->set_sequence_id(1);
  EXPECT_EQ(recent.FillIn(plan).value(), false);
  EXPECT_EQ(recent.FillInWithPlaceholders(plan).value(), true);
  EXPECT_THAT(plan.chunks(0).token_ids(), ElementsAre(7, PlaceholderToken(1)));
  EXPECT_EQ(plan.chunks(0).last_token_from_step(), 9);
  EXPECT_THAT(plan.chunks(1).token_ids(), ElementsAre(7, 801));
  EXPECT_EQ(plan.chunks(1).last_token_from_step(), 0);
}

TEST(RecentStepsTest, OnlyTheNewestStepFeeds) {
  RecentSteps recent(2);
  recent.Begin(PlanOf(8));
  recent.Begin(PlanOf(9));
  v1::StepPlan plan = PlanAhead(8);
  EXPECT_EQ(recent.FillInWithPlaceholders(plan).value(), false);
  EXPECT_EQ(plan.DebugString(), PlanAhead(8).DebugString());
  for (int64_t none : {7, 50}) {
    plan = PlanAhead(none);
    EXPECT_EQ(recent.FillInWithPlaceholders(plan).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(RecentStepsTest, RefusesTokensThatNoRecentStepSamples) {
  struct Case {
    const char* says;
    std::function<void(v1::SequenceChunk&)> spoil;
  };
  const Case cases[] = {
      {"samples for this sequence, got 7", [](auto& c) { c.set_last_token_from_step(7); }},
      {"samples for this sequence, got 50", [](auto& c) { c.set_last_token_from_step(50); }},
      {"last_token_from_step -1", [](auto& c) { c.set_last_token_from_step(-1); }},
      {"samples for this sequence", [](auto& c) { c.set_sequence_id(3); }},
      {"samples for this sequence", [](auto& c) { c.set_sequence_id(4); }},
      {"-1 as the last of 2 token_ids", [](auto& c) { c.set_token_ids(1, 5); }},
      {"-1 as the last of 0 token_ids", [](auto& c) { c.clear_token_ids(); }},
  };
  for (bool done : {false, true}) {
    RecentSteps recent(2);
    recent.Begin(PlanOf(8));
    if (done) {
      ASSERT_TRUE(recent.End(ResultOf(8)).ok());
    }
    for (const Case& bad : cases) {
      v1::StepPlan plan = PlanAhead(8);
      bad.spoil(*plan.mutable_chunks(0));
      const absl::Status status = recent.FillIn(plan).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.says;
      EXPECT_THAT(std::string(status.message()), HasSubstr(bad.says));
      EXPECT_THAT(std::string(status.message()), HasSubstr("step 50, chunk 0 (sequence "));
    }
  }
}

TEST(RecentStepsTest, KeepsAsManyStepsAsAPlanMayLookBack) {
  for (int stages : {1, 2, 5}) {
    RecentSteps recent(stages);
    for (int64_t id = 1; id <= 1000; ++id) {
      recent.Begin(PlanOf(id));
      ASSERT_TRUE(recent.End(ResultOf(id)).ok());
    }
    v1::StepPlan plan = PlanAhead(1000 - stages);
    EXPECT_EQ(recent.FillIn(plan).value(), true);
    EXPECT_EQ(plan.chunks(0).token_ids(1), 100 * (1000 - stages) + 2);
    plan = PlanAhead(900);
    EXPECT_EQ(recent.FillIn(plan).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(RecentStepsTest, ResultsComeInOrderAndWithTheTokensOfTheirStep) {
  struct Case {
    const char* says;
    v1::StepResult result;
  };
  Case cases[] = {{"answered step 9; expected step 8", ResultOf(9)},
                  {"expected 2 tokens", ResultOf(8)},
                  {"expected 2 tokens", ResultOf(8)},
                  {"expected 2 tokens", ResultOf(8)}};
  cases[1].result.mutable_tokens()->RemoveLast();
  *cases[2].result.add_tokens() = cases[2].result.tokens(0);
  cases[3].result.mutable_tokens(1)->set_sequence_id(3);
  for (const Case& bad : cases) {
    RecentSteps recent(2);
    recent.Begin(PlanOf(8));
    recent.Begin(PlanOf(9));
    const absl::Status status = recent.End(bad.result);
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.says));
  }
  EXPECT_THAT(std::string(RecentSteps(1).End(ResultOf(1)).message()), HasSubstr("expected none"));
}

TEST(RecentStepsTest, KnowsWhetherAPlanGoesOnWithItsSequences) {
  RecentSteps recent(1);
  EXPECT_FALSE(recent.Continues(PlanAhead(0)));
  recent.Begin(PlanOf(1));
  EXPECT_TRUE(recent.Continues(PlanAhead(0)));
  v1::StepPlan other = PlanAhead(0);
  other.mutable_chunks(0)->set_sequence_id(77);
  EXPECT_FALSE(recent.Continues(other));
  other.mutable_chunks(0)->set_sequence_id(3);
  EXPECT_TRUE(recent.Continues(other));
}

}  // namespace
}  // namespace tessera::worker
