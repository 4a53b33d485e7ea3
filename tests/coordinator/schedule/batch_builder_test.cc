#include "coordinator/schedule/batch_builder.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/schedule/kv_memory_group.h"
#include "tests/coordinator/schedule/made_sequence.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::LearnedCost;
using tessera::testing::MadeRequest;
using tessera::testing::Prompt;
using tessera::testing::ShowPlan;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Time kNow = absl::FromUnixSeconds(1'000);

class BatchBuilderTest : public ::testing::Test {
 protected:
  void Start(const SchedulerLimits& limits) {
    cache_ = std::make_unique<KvCacheManager>(limits);
    table_ = std::make_unique<SequenceTable>(TenantQueueOptions{}, limits.max_sequences_per_step);
    ASSERT_EQ(table_->tenants().TenantIndex("a"), 0);
    estimator_ = std::make_unique<OverloadEstimator>(limits, &cost_);
    admission_ = std::make_unique<DeadlineAdmission>(limits, cache_.get(), estimator_.get());
    preemption_ = std::make_unique<PreemptionPolicy>(cache_.get(), table_.get());
    builder_ = std::make_unique<BatchBuilder>(limits, /*max_len=*/1'000,
                                              BatchBuilder::Parts{.cache = cache_.get(),
                                                                  .table = table_.get(),
                                                                  .preemption = preemption_.get(),
                                                                  .admission = admission_.get(),
                                                                  .estimator = estimator_.get(),
                                                                  .cost = &cost_,
                                                                  .tenants = &active_},
                                              [this](RequestState* late) {
                                                late_.push_back(late->request.id);
                                                table_->Drop(&late->choices[0]);
                                              });
  }

  static SchedulerLimits Limits() {
    return {.block_tokens = 4,
            .num_blocks = 64,
            .max_tokens_per_step = 20,
            .max_sequences_per_step = 4,
            .max_prefill_chunk = 16};
  }

  void Run(MadeRequest* request) {
    table_->Enqueue(request->sequence());
    ASSERT_TRUE(cache_->TakePrefix(request->sequence(), &plan_));
    table_->Start(request->sequence());
    ASSERT_TRUE(cache_->Grow(request->sequence()->known(), request->sequence()));
  }

  std::vector<std::string> Build() {
    step_ = Step{};
    step_.id = next_step_++;
    plan_.Clear();
    EarlierPlan earlier = {.plan = &plan_};
    builder_->Build({.now = kNow}, &step_, &earlier);
    return ShowPlan(plan_);
  }

  StepCost cost_;
  ActiveTenants active_;
  std::unique_ptr<KvCacheManager> cache_;
  std::unique_ptr<SequenceTable> table_;
  std::unique_ptr<OverloadEstimator> estimator_;
  std::unique_ptr<DeadlineAdmission> admission_;
  std::unique_ptr<PreemptionPolicy> preemption_;
  std::unique_ptr<BatchBuilder> builder_;
  std::vector<int64_t> late_;
  v1::StepPlan plan_;
  Step step_;
  int64_t next_step_ = 1;
  MadeRequest first_{1, Prompt(1, 10)};
  MadeRequest second_{2, Prompt(2, 30)};
  MadeRequest third_{3, Prompt(3, 10)};
};

TEST_F(BatchBuilderTest, DecodesThenPromptsUnderWayThenThoseThatWaitWithinTheBudget) {
  Start(Limits());
  Run(&second_);
  Run(&third_);
  third_.Decodes();
  table_->Enqueue(first_.sequence());
  EXPECT_THAT(Build(), ElementsAre("3:10+1!", "2:0+16", "1:0+3"));
  EXPECT_EQ(step_.shape.decodes, 1);
  EXPECT_EQ(step_.shape.prefill_tokens, 19);
  EXPECT_THAT(step_.owners, ElementsAre(third_.sequence(), second_.sequence(), first_.sequence()));
  EXPECT_EQ(first_.sequence()->state, Sequence::State::kRunning);
}

TEST_F(BatchBuilderTest, NobodyBeginsWithTheCrumbsOfAnOlderPrompt) {
  SchedulerLimits limits = Limits();
  limits.max_tokens_per_step = 12;
  Start(limits);
  Run(&first_);
  table_->Enqueue(second_.sequence());
  table_->Enqueue(third_.sequence());
  EXPECT_THAT(Build(), ElementsAre("1:0+10!", "2:0+2")) << "2 has all that is left";
  EXPECT_EQ(third_.sequence()->state, Sequence::State::kWaiting);
}

TEST_F(BatchBuilderTest, SlotsAndBlocksBoundWhoIsAdmitted) {
  SchedulerLimits limits = Limits();
  limits.num_blocks = 8;
  Start(limits);
  table_->Enqueue(first_.sequence());
  table_->Enqueue(second_.sequence());
  EXPECT_THAT(Build(), ElementsAre("1:0+10!"));
  EXPECT_TRUE(builder_->out_of_blocks()) << "three blocks are taken, and 2 needs eight";
  limits = Limits();
  limits.max_sequences_per_step = 1;
  Start(limits);
  table_->Enqueue(third_.sequence());
  table_->Enqueue(second_.sequence());
  EXPECT_THAT(Build(), ElementsAre("2:0+16"));
  EXPECT_FALSE(builder_->out_of_blocks());
}

TEST_F(BatchBuilderTest, AWaitingOneThatIsTooLateIsDropped) {
  cost_ = LearnedCost();
  Start(Limits());
  first_.state()->request.deadline = kNow + absl::Milliseconds(5);
  first_.state()->added_at = kNow;
  table_->Enqueue(first_.sequence());
  table_->Enqueue(third_.sequence());
  EXPECT_THAT(Build(), ElementsAre("3:0+10!"));
  EXPECT_THAT(late_, ElementsAre(1));
}

TEST_F(BatchBuilderTest, APromptStretchesTheStepOfDecodesByAFactor) {
  cost_ = LearnedCost();
  Start(Limits());
  Run(&third_);
  third_.Decodes();
  Run(&second_);
  // A decode takes 11 ms, a prompt token 1 ms; the factor is 2.
  Build();
  EXPECT_EQ(step_.shape.decodes, 1);
  EXPECT_NEAR(step_.shape.prefill_tokens, 11, 1) << "of 16 that a chunk may have";
}

TEST_F(BatchBuilderTest, ASequenceInFlightIsLeftOutUnlessStepsAreSentAhead) {
  Start(Limits());
  Run(&third_);
  third_.Decodes();
  EXPECT_THAT(Build(), ElementsAre("3:10+1!"));
  EXPECT_THAT(Build(), IsEmpty());
  step_ = Step{};
  step_.id = next_step_++;
  EarlierPlan earlier = {.plan = &plan_};
  builder_->Build({.now = kNow, .async = true, .oldest_step = 1}, &step_, &earlier);
  EXPECT_THAT(ShowPlan(plan_), ElementsAre("3:11+1?!"));
}

}  // namespace
}  // namespace tessera::coordinator
