// Priorities, and tenants among each other: who is admitted, and who is preempted.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/schedule/scheduler.h"
#include "tests/coordinator/schedule/scheduler_fixture.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::ReferenceTokens;
using tessera::testing::Request;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FairnessTest : public tessera::testing::SchedulerTest {
 protected:
  static SchedulerLimits Slots(int slots, SchedulingPolicy policy = SchedulingPolicy::kFcfs) {
    SchedulerLimits limits = Limits();
    limits.max_sequences_per_step = slots;
    limits.policy = policy;
    return limits;
  }

  void AddFor(const std::string& tenant, ScheduledRequest request) {
    request.tenant = tenant;
    Add(request);
  }

  void AddWithPriority(int32_t priority, ScheduledRequest request) {
    request.priority = priority;
    Add(request);
  }
};

constexpr auto kPriority = SchedulingPolicy::kPriority;

TEST_F(FairnessTest, LowerPriorityValuesGoFirst) {
  Start(Slots(1, kPriority));
  AddWithPriority(5, Request(1, 3, 1));
  AddWithPriority(-1, Request(2, 3, 1));
  AddWithPriority(5, Request(3, 3, 1));
  AddWithPriority(0, Request(4, 3, 1));
  EXPECT_THAT(Tick(), ElementsAre("2:0+3!"));
  EXPECT_THAT(Tick(), ElementsAre("4:0+3!"));
  EXPECT_THAT(Tick(), ElementsAre("1:0+3!"));
  EXPECT_THAT(Tick(), ElementsAre("3:0+3!"));
}

TEST_F(FairnessTest, WithFcfsPriorityMeansNothing) {
  Start(Slots(1));
  AddWithPriority(5, Request(1, 3, 1));
  AddWithPriority(-1, Request(2, 3, 1));
  EXPECT_THAT(Tick(), ElementsAre("1:0+3!"));
}

TEST_F(FairnessTest, ABetterPriorityTakesASlotAndTheVictimComesBack) {
  Start(Slots(2, kPriority));
  AddWithPriority(1, Request(1, 3, 6));
  AddWithPriority(2, Request(2, 3, 6));
  Tick();
  AddWithPriority(0, Request(3, 3, 2));
  AddWithPriority(2, Request(4, 3, 2));
  EXPECT_THAT(Tick(), ElementsAre("1:3+1!", "3:0+3!")) << "2 is the worst that runs";
  EXPECT_EQ(scheduler_->stats().preemptions, 1);
  EXPECT_THAT(Tick(), ElementsAre("3:3+1!", "1:4+1!")) << "in the order of rank";
  EXPECT_THAT(Tick(), ElementsAre("1:5+1!", "2:0+4!")) << "before 4, which is younger";
  RunToTheEnd();
  EXPECT_EQ(scheduler_->stats().preemptions, 1) << "nobody preempted back";
  EXPECT_EQ(output(2), ReferenceTokens(Request(2, 3, 6), 1'000));
}

TEST_F(FairnessTest, EqualPriorityDoesNotPreempt) {
  Start(Slots(1, kPriority));
  AddWithPriority(1, Request(1, 3, 9));
  Tick();
  AddWithPriority(1, Request(2, 3, 9));
  EXPECT_THAT(Tick(), ElementsAre("1:3+1!"));
}

TEST_F(FairnessTest, ABetterPriorityTakesBlocks) {
  SchedulerLimits limits = Slots(8, kPriority);
  limits.block_tokens = 4;
  limits.num_blocks = 8;
  Start(limits);
  AddWithPriority(3, Request(1, 11, 5));
  AddWithPriority(4, Request(2, 11, 5));
  EXPECT_THAT(Tick(), ElementsAre("1:0+11!", "2:0+11!"));
  AddWithPriority(0, Request(3, 11, 5));
  EXPECT_THAT(Tick(), ElementsAre("1:11+1!", "3:0+11!"));
  RunToTheEnd();
  for (const int64_t id : {1, 2, 3}) {
    EXPECT_EQ(output(id), ReferenceTokens(Request(id, 11, 5), 32));
  }
}

TEST_F(FairnessTest, WhenBlocksRunOutTheLowestPriorityIsPreemptedFirst) {
  SchedulerLimits limits = Slots(3, kPriority);
  limits.block_tokens = 4;
  limits.num_blocks = 6;
  Start(limits);
  AddWithPriority(2, Request(1, 7, 8));
  AddWithPriority(0, Request(2, 7, 8));
  AddWithPriority(1, Request(3, 7, 8));
  EXPECT_THAT(Tick(), ElementsAre("2:0+7!", "3:0+7!", "1:0+7!"));
  EXPECT_THAT(Tick(), ElementsAre("2:7+1!", "3:7+1!", "1:7+1!"));
  EXPECT_THAT(Tick(), ElementsAre("2:8+1!", "3:8+1!")) << "1 is the oldest, but of least priority";
}

TEST_F(FairnessTest, AVictimInFlightLeavesItsSlotAtOnce) {
  SchedulerLimits limits = Slots(1, kPriority);
  limits.lookahead = true;
  Start(limits);
  AddWithPriority(1, Request(1, 3, 9));
  EXPECT_THAT(Send(), ElementsAre("1:0+3!"));
  AddWithPriority(0, Request(2, 3, 1));
  EXPECT_THAT(Send(), ElementsAre("2:0+3!"));
  EXPECT_EQ(scheduler_->stats().preemptions, 0);
  Answer();
  EXPECT_EQ(scheduler_->stats().preemptions, 1);
  EXPECT_THAT(Send(), IsEmpty()) << "2 still has the only slot";
  RunToTheEnd();
  EXPECT_EQ(output(1), ReferenceTokens(Request(1, 3, 9), 1'000));
  EXPECT_EQ(output(2), ReferenceTokens(Request(2, 3, 1), 1'000));
}

TEST_F(FairnessTest, ATenantBelowItsShareGetsASlotFromTheOneMostAbove) {
  Start(Slots(4));
  for (int id = 1; id <= 6; ++id) AddFor("flood", Request(id, 3, 9));
  EXPECT_THAT(Tick(), ElementsAre("1:0+3!", "2:0+3!", "3:0+3!", "4:0+3!"));
  AddFor("small", Request(7, 3, 2));
  EXPECT_THAT(Tick(), ElementsAre("7:0+3!")) << "the flood steps aside for the prompt";
  EXPECT_EQ(scheduler_->stats().preemptions, 1);
  for (int id = 8; id <= 10; ++id) AddFor("small", Request(id, 3, 9));
  EXPECT_THAT(Tick(), ElementsAre("1:3+1!", "2:3+1!", "7:3+1!", "8:0+3!")) << "but not twice";
  // Two slots each: that is fair, whoever waits.
  EXPECT_THAT(Tick(), ElementsAre("1:4+1!", "2:4+1!", "8:3+1!", "9:0+3!"));
  EXPECT_EQ(scheduler_->stats().preemptions, 2);
  Tick();
  EXPECT_EQ(scheduler_->stats().preemptions, 2);
  RunToTheEnd();
  for (int64_t id = 1; id <= 6; ++id) {
    EXPECT_EQ(output(id), ReferenceTokens(Request(id, 3, 9), 1'000));
  }
}

TEST_F(FairnessTest, SharesAreByWeight) {
  SchedulerLimits limits = Slots(4);
  limits.tenant_weights = {{"heavy", 3.0}};
  Start(limits);
  for (int id = 1; id <= 4; ++id) AddFor("heavy", Request(id, 3, 50));
  Tick();
  for (int id = 5; id <= 8; ++id) AddFor("light", Request(id, 3, 50));
  EXPECT_THAT(Tick(), ElementsAre("1:3+1!", "2:3+1!", "3:3+1!", "5:0+3!"));
  EXPECT_THAT(Tick(), ElementsAre("1:4+1!", "2:4+1!", "3:4+1!", "5:3+1!"));
}

TEST_F(FairnessTest, ATenantBelowItsShareGetsBlocks) {
  SchedulerLimits limits = Slots(8);
  limits.block_tokens = 4;
  limits.num_blocks = 12;
  Start(limits);
  for (int id = 1; id <= 6; ++id) AddFor("flood", Request(id, 7, 2));
  Tick();
  EXPECT_EQ(free_blocks(), 0);
  AddFor("small", Request(7, 11, 2));
  EXPECT_THAT(Tick(), ElementsAre("1:7+1!", "2:7+1!", "3:7+1!", "4:7+1!", "7:0+11!"));
  RunToTheEnd();
  EXPECT_EQ(output(7), ReferenceTokens(Request(7, 11, 2), 48));
}

// The flood's decodes need blocks too; they take them from each other, not from the small tenant.
TEST_F(FairnessTest, ATenantAtItsShareKeepsItsBlocks) {
  SchedulerLimits limits = Slots(4);
  limits.block_tokens = 4;
  limits.num_blocks = 9;
  Start(limits);
  for (int id = 1; id <= 3; ++id) AddFor("flood", Request(id, 7, 10));
  AddFor("small", Request(4, 7, 10));
  EXPECT_THAT(Tick().size(), 4u);
  Tick();
  EXPECT_THAT(Tick(), ElementsAre("1:8+1!", "2:8+1!", "4:8+1!"));
  RunToTheEnd();
  EXPECT_EQ(output(3), ReferenceTokens(Request(3, 7, 10), 36));
}

TEST_F(FairnessTest, NobodyRunsAheadWhileAnotherTenantIsActive) {
  SchedulerLimits limits = Slots(4);
  limits.lookahead = true;
  Start(limits);
  AddFor("one", Request(1, 3, 9));
  EXPECT_THAT(Send(), ElementsAre("1:0+3!"));
  EXPECT_THAT(Send(), ElementsAre("1:3+1?!"));
  AddFor("other", Request(2, 3, 1));
  Answer();
  EXPECT_THAT(Send(), IsEmpty());
  Answer();
  EXPECT_THAT(Send(), ElementsAre("1:4+1!", "2:0+3!"));
  Answer();
  EXPECT_THAT(Send(), ElementsAre("1:5+1!"));
  EXPECT_THAT(Send(), IsEmpty()) << "it may come again";
  EXPECT_THAT(Send(tessera::testing::kNow + absl::Minutes(1)), ElementsAre("1:6+1?!"));
  RunToTheEnd();
  EXPECT_EQ(output(1), ReferenceTokens(Request(1, 3, 9), 1'000));
}

class PrefillAllowanceTest : public FairnessTest {
 protected:
  // What a step of 8 ms, or base_micros_, and 1 ms per token takes.
  void AnswerInTime() {
    int tokens = 0;
    for (const auto& chunk : plan_->chunks()) tokens += chunk.token_ids_size();
    Answer(base_micros_ + 1'000 * tokens);
  }

  // Eight decodes of the tenant "a" under way, their cost known.
  void StartEightStreams() {
    SchedulerLimits limits = Slots(64);
    limits.num_blocks = 1'000;
    limits.prefix_caching = false;
    Start(limits);
    for (int id = 1; id <= 8; ++id) AddFor("a", Request(id, 10 * id, 1'000));
    for (int i = 0; i < 30; ++i) {
      AddFor("a", Request(100 + i, 5 + 3 * i, 1));
      Send(now_ += absl::Milliseconds(100));
      AnswerInTime();
    }
    int decode_steps = 0;
    while (decode_steps < 10) {
      Send(now_ += absl::Milliseconds(100));
      AnswerInTime();
      decode_steps += scheduler_->stats().running == 8 && scheduler_->stats().waiting == 0;
    }
  }

  int PromptTokensOfNextStep() {
    Send(now_ += absl::Milliseconds(100));
    int tokens = 0;
    for (const auto& chunk : plan_->chunks()) {
      if (chunk.token_ids_size() > 1) tokens += chunk.token_ids_size();
    }
    AnswerInTime();
    return tokens;
  }

  // The cost of steps is known, and nothing runs any more.
  void LearnSteps() {
    StartEightStreams();
    for (int id = 1; id <= 8; ++id) EXPECT_TRUE(scheduler_->Finish(id));
    EXPECT_TRUE(scheduler_->idle());
  }

  void AddLater(const std::string& tenant, ScheduledRequest request) {
    request.tenant = tenant;
    ASSERT_EQ(scheduler_->Add(request, now_), absl::OkStatus());
  }

  void Flood(const std::string& tenant) {
    for (int id = 201; id <= 220; ++id) AddLater(tenant, Request(id, 100, 50));
  }

  // Somebody was here just now.
  void Visit(const std::string& tenant) {
    AddLater(tenant, Request(300, 10));
    scheduler_->Finish(300);
  }

  absl::Time now_ = tessera::testing::kNow;
  int64_t base_micros_ = 8'000;
};

TEST_F(PrefillAllowanceTest, APromptStretchesTheStepsOfRunningStreamsByABoundedFactor) {
  StartEightStreams();
  AddFor("a", Request(50, 600, 1));
  // 16 ms of decodes: as much again for the prompt.
  for (int step = 0; step < 10; ++step) {
    const int tokens = PromptTokensOfNextStep();
    EXPECT_GE(tokens, 14);
    EXPECT_LE(tokens, 18);
  }
}

TEST_F(PrefillAllowanceTest, ATenantInDeficitMayUseTheWholeBudget) {
  StartEightStreams();
  AddFor("b", Request(50, 300, 1));
  EXPECT_EQ(PromptTokensOfNextStep(), 300);
}

TEST_F(PrefillAllowanceTest, PromptsWithoutDecodesGoInPiecesWhileAnotherTenantIsActive) {
  base_micros_ = 1'000;
  LearnSteps();
  Visit("b");
  Flood("a");
  EXPECT_NEAR(PromptTokensOfNextStep(), 20, 1) << "20 ms";
  EXPECT_NEAR(PromptTokensOfNextStep(), 20, 1) << "of the prompt under way too";
}

TEST_F(PrefillAllowanceTest, ThePiecesAreWorthAStep) {
  LearnSteps();
  Visit("b");
  Flood("a");
  EXPECT_NEAR(PromptTokensOfNextStep(), 64, 2) << "eight times the 8 ms of every step";
}

TEST_F(PrefillAllowanceTest, ATenantAloneMayUseTheWholeBudget) {
  base_micros_ = 1'000;
  LearnSteps();
  Flood("a");
  EXPECT_EQ(PromptTokensOfNextStep(), limits_.max_tokens_per_step);
}

TEST_F(PrefillAllowanceTest, SoItMayWhenTheOthersHaveGone) {
  base_micros_ = 1'000;
  LearnSteps();
  Visit("b");
  now_ += absl::Minutes(1);
  Flood("a");
  EXPECT_EQ(PromptTokensOfNextStep(), limits_.max_tokens_per_step);
}

TEST_F(PrefillAllowanceTest, PromptsThatAreDoneSoonAreNotCut) {
  base_micros_ = 1'000;
  LearnSteps();
  Visit("b");
  AddLater("a", Request(200, 50, 1));
  EXPECT_EQ(PromptTokensOfNextStep(), 50);
}

TEST_F(PrefillAllowanceTest, WithUnknownCostNothingIsCut) {
  SchedulerLimits limits = Slots(64);
  limits.num_blocks = 1'000;
  Start(limits);
  Visit("b");
  Flood("a");
  EXPECT_EQ(PromptTokensOfNextStep(), limits_.max_tokens_per_step);
}

TEST_F(PrefillAllowanceTest, ATenantInDeficitGetsTheStepForItsPrompt) {
  base_micros_ = 1'000;
  LearnSteps();
  Visit("b");
  Flood("a");
  EXPECT_NEAR(PromptTokensOfNextStep(), 20, 1);
  AddLater("b", Request(300, 90, 1));
  EXPECT_EQ(PromptTokensOfNextStep(), 90);
}

}  // namespace
}  // namespace tessera::coordinator
