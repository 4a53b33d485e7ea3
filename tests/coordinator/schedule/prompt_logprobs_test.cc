// Log probabilities of prompt tokens, and requests that want nothing else.
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/schedule/scheduler.h"
#include "tests/coordinator/schedule/scheduler_fixture.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::kNow;
using tessera::testing::ReferencePromptLogprobs;
using tessera::testing::ReferenceTokens;
using tessera::testing::Request;
using ::testing::ElementsAre;

class PromptLogprobsTest : public tessera::testing::SchedulerTest {
 protected:
  static ScheduledRequest Scored(int64_t id, int prompt_tokens, int from, int max_tokens = 0) {
    ScheduledRequest request = Request(id, prompt_tokens, max_tokens);
    request.prompt_logprobs_from = from;
    request.num_prompt_logprobs = 2;
    return request;
  }

  static std::vector<float> Logprobs(const std::vector<Emission>& emissions) {
    std::vector<float> logprobs;
    for (const Emission& emission : emissions) {
      for (const auto& prompt_logprob : emission.prompt_logprobs)
        logprobs.push_back(prompt_logprob.logprob());
    }
    return logprobs;
  }
};

TEST_F(PromptLogprobsTest, AScoreEndsWithItsLastLogprobAndSamplesNothing) {
  Start(Limits());
  Add(Scored(1, 5, 3));
  EXPECT_THAT(Tick(), ElementsAre("1:0+5"));
  EXPECT_THAT(plan_->chunks(0).prompt_logprob_ids(), ElementsAre(-1, -1, 4, 5, -1));
  EXPECT_EQ(plan_->chunks(0).num_prompt_logprobs(), 2);
  ASSERT_EQ(last_.size(), 1u);
  EXPECT_EQ(last_[0].finished, FinishCause::kLength);
  EXPECT_EQ(last_[0].token, nullptr);
  EXPECT_EQ(Logprobs(last_), ReferencePromptLogprobs(Scored(1, 5, 3)));
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_EQ(free_blocks(), 64);
}

TEST_F(PromptLogprobsTest, TheyComeInOrderWithTheChunks) {
  for (const bool lookahead : {false, true}) {
    SchedulerLimits limits = Limits();
    limits.lookahead = lookahead;
    limits.max_prefill_chunk = 4;
    Start(limits);
    const ScheduledRequest request = Scored(1, 14, 6, 2);
    Add(request);
    std::vector<float> logprobs;
    std::vector<size_t> counts;
    while (!scheduler_->idle()) {
      while (!Send().empty()) {
      }
      Answer();
      for (const float logprob : Logprobs(last_)) logprobs.push_back(logprob);
      counts.push_back(Logprobs(last_).size());
    }
    EXPECT_EQ(logprobs, ReferencePromptLogprobs(request));
    EXPECT_EQ(counts, (std::vector<size_t>{0, 3, 4, 1, 0}));
    while (group_->in_flight() > 0) Answer();
    EXPECT_EQ(output(1), ReferenceTokens(request, 1'000));
    outputs_.clear();
  }
}

TEST_F(PromptLogprobsTest, NothingButThePrompt) {
  Start(Limits());
  Add(Request(1, 5, 0));
  EXPECT_THAT(Tick(), ElementsAre("1:0+5"));
  ASSERT_EQ(last_.size(), 1u);
  EXPECT_EQ(last_[0].finished, FinishCause::kLength);
  EXPECT_EQ(last_[0].prompt_logprobs.size(), 0u);
  Add(Request(2, 1, 0));
  EXPECT_THAT(Tick(), ElementsAre("2:0+1"));
  EXPECT_TRUE(scheduler_->idle());
}

TEST_F(PromptLogprobsTest, AScoreMayFillTheWholeContext) {
  SchedulerLimits limits = Limits();
  limits.max_model_len = 10;
  Start(limits);
  EXPECT_EQ(scheduler_->Add(Scored(1, 11, 1), kNow).message(),
            "prompt has 11 tokens; expected 1 .. 10 (max_model_len is 10 tokens)");
  Add(Scored(1, 10, 1));
  Tick();
  EXPECT_EQ(last_[0].prompt_logprobs.size(), 9u);
}

TEST_F(PromptLogprobsTest, ThePrefixCacheIsUsedUpToTheFirstLogprobOnly) {
  Start(Limits());
  Add(Request(1, 60, 1));
  Tick();
  ScheduledRequest request = Scored(1, 60, 33);
  request.id = 2;
  Add(request);
  EXPECT_THAT(Tick(), ElementsAre("2:32+28")) << "two blocks: position 32 gives the first one";
  EXPECT_EQ(Logprobs(last_), ReferencePromptLogprobs(request));
  request.id = 3;
  request.prompt_logprobs_from = 32;
  Add(request);
  EXPECT_THAT(Tick(), ElementsAre("3:16+44"));
  EXPECT_EQ(Logprobs(last_), ReferencePromptLogprobs(request));
}

TEST_F(PromptLogprobsTest, NoLogprobIsEmittedTwiceAfterAPreemption) {
  SchedulerLimits limits = Limits();
  limits.block_tokens = 4;
  limits.num_blocks = 6;
  limits.max_prefill_chunk = 6;
  limits.prefix_caching = false;
  Start(limits);
  Add(Request(1, 3, 14));
  const ScheduledRequest request = Scored(2, 17, 2);
  Add(request);
  std::vector<float> logprobs;
  while (!scheduler_->idle()) {
    ASSERT_FALSE(Tick().empty());
    for (const float logprob : Logprobs(last_)) logprobs.push_back(logprob);
  }
  EXPECT_EQ(logprobs, ReferencePromptLogprobs(request));
  EXPECT_GT(scheduler_->stats().preemptions, 0);
}

TEST_F(PromptLogprobsTest, OnlyTheFirstChoiceHasThem) {
  Start(Limits());
  ScheduledRequest request = Scored(1, 20, 1, 3);
  request.seeds = {1, 2};
  Add(request);
  Tick();
  EXPECT_EQ(last_[0].prompt_logprobs.size(), 19u);
  Tick();
  EXPECT_EQ(Logprobs(last_).size(), 0u);
}

}  // namespace
}  // namespace tessera::coordinator
