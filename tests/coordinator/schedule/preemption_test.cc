// Too few KV blocks: who is preempted, and that nobody can tell from the tokens.
#include <map>
#include <numeric>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/scheduler.h"
#include "tests/coordinator/schedule/kv_memory_group.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::kFakeVocab;
using tessera::testing::KvMemoryGroup;
using tessera::testing::ReferenceTokens;
using tessera::testing::ShowPlan;
using ::testing::ElementsAre;

const absl::Time kNow = absl::FromUnixSeconds(1'000);

ScheduledRequest Request(int64_t id, int prompt_tokens, int max_tokens) {
  ScheduledRequest request;
  request.id = id;
  request.prompt_ids.resize(static_cast<size_t>(prompt_tokens));
  std::iota(request.prompt_ids.begin(), request.prompt_ids.end(), static_cast<int32_t>(id));
  request.max_tokens = max_tokens;
  request.sampling.set_seed(static_cast<uint64_t>(id * 1'000));
  return request;
}

using Outputs = std::map<int64_t, std::vector<int32_t>>;

struct History {
  Outputs outputs;
  int64_t preemptions = 0;
  int steps = 0;
};

// Everything at once, up to max_steps_in_flight steps sent before the oldest is answered.
History RunAll(const std::vector<ScheduledRequest>& requests, const SchedulerLimits& limits) {
  Scheduler scheduler(limits);
  KvMemoryGroup group(limits);
  History run;
  for (const ScheduledRequest& request : requests) {
    EXPECT_EQ(scheduler.Add(request, kNow), absl::OkStatus());
  }
  while (!scheduler.idle() && run.steps < 1'000'000) {
    while (auto plan = scheduler.Schedule(kNow)) {
      group.Send(*plan);
      ++run.steps;
    }
    if (group.in_flight() == 0) {
      ADD_FAILURE() << "stuck: live requests, and nothing to do";
      return run;
    }
    const v1::StepResult result = group.ExecuteOldest();
    auto emissions = scheduler.Commit(result);
    if (!emissions.ok()) {
      ADD_FAILURE() << emissions.status();
      return run;
    }
    for (const Emission& emission : *emissions) {
      run.outputs[emission.request_id].push_back(emission.token->token_id());
    }
  }
  EXPECT_EQ(scheduler.stats().blocks_free, limits.num_blocks);
  run.preemptions = scheduler.stats().preemptions;
  return run;
}

Outputs Expected(const std::vector<ScheduledRequest>& requests, int max_len) {
  Outputs outputs;
  for (const auto& request : requests) outputs[request.id] = ReferenceTokens(request, max_len);
  return outputs;
}

TEST(PreemptionTest, TheYoungestIsPreemptedAndComesBackFirst) {
  const SchedulerLimits limits{
      .block_tokens = 4, .num_blocks = 4, .max_sequences_per_step = 2, .lookahead = false};
  Scheduler scheduler(limits);
  KvMemoryGroup group(limits);
  for (int id = 1; id <= 3; ++id) {
    ASSERT_EQ(scheduler.Add(Request(id, 7, 8), kNow), absl::OkStatus());
  }
  const auto tick = [&] {
    const auto plan = scheduler.Schedule(kNow);
    if (!plan) return std::vector<std::string>();
    group.Send(*plan);
    const v1::StepResult result = group.ExecuteOldest();
    EXPECT_TRUE(scheduler.Commit(result).ok());
    return ShowPlan(*plan);
  };
  EXPECT_THAT(tick(), ElementsAre("1:0+7!", "2:0+7!"));
  EXPECT_THAT(tick(), ElementsAre("1:7+1!", "2:7+1!"));
  // Position 8 needs a third block, and all four are taken: 2 is preempted. Its two blocks would do
  // for nothing but itself, so nobody is admitted.
  EXPECT_THAT(tick(), ElementsAre("1:8+1!"));
  EXPECT_EQ(scheduler.stats().preemptions, 1);
  EXPECT_EQ(scheduler.stats().waiting, 2);
  for (int position = 9; position < 14; ++position) {
    EXPECT_THAT(tick(), ElementsAre(absl::StrCat("1:", position, "+1!")));
  }
  // 1 is done: 2 is computed anew from prompt and emitted tokens, before 3.
  EXPECT_THAT(tick(), ElementsAre("2:0+9!"));
}

TEST(PreemptionTest, TokensAreTheSameWithAndWithoutAndForEveryChunkSize) {
  std::vector<ScheduledRequest> requests;
  for (int id = 1; id <= 20; ++id) requests.push_back(Request(id, 1 + (id * 37) % 90, 30 + id));
  for (const int chunk : {1, 16, 512}) {
    for (const int blocks : {16, 40, 1'000}) {
      for (const int in_flight : {1, 2, 4}) {
        SCOPED_TRACE(::testing::Message()
                     << "chunk " << chunk << ", blocks " << blocks << ", steps " << in_flight);
        const SchedulerLimits limits{.block_tokens = 8,
                                     .num_blocks = blocks,
                                     .max_tokens_per_step = 64,
                                     .max_prefill_chunk = chunk,
                                     .max_steps_in_flight = in_flight,
                                     .vocab_size = kFakeVocab};
        const History run = RunAll(requests, limits);
        EXPECT_TRUE(run.outputs == Expected(requests, blocks * limits.block_tokens));
        EXPECT_EQ(run.preemptions > 0, blocks < 1'000);
      }
    }
  }
}

TEST(PreemptionTest, AloneOrAmongOthersMakesNoDifference) {
  std::vector<ScheduledRequest> requests;
  for (int id = 1; id <= 16; ++id) requests.push_back(Request(id, 5 + id, 20));
  const SchedulerLimits limits{.block_tokens = 4, .num_blocks = 60};
  const History together = RunAll(requests, limits);
  for (const ScheduledRequest& request : requests) {
    EXPECT_EQ(RunAll({request}, limits).outputs.at(request.id), together.outputs.at(request.id));
  }
}

// Each of them needs all the blocks in the end: they can only go one after the other.
TEST(PreemptionTest, NoDeadlockWhenEveryoneNeedsEverything) {
  for (const int in_flight : {1, 3}) {
    for (const int chunk : {1, 3, 512}) {
      std::vector<ScheduledRequest> requests;
      for (int id = 1; id <= 6; ++id) requests.push_back(Request(id, 2, 1'000));
      const SchedulerLimits limits{.block_tokens = 4,
                                   .num_blocks = 8,
                                   .max_prefill_chunk = chunk,
                                   .max_steps_in_flight = in_flight};
      const History run = RunAll(requests, limits);
      EXPECT_EQ(run.outputs, Expected(requests, 32));
      EXPECT_GT(run.preemptions, 0);
    }
  }
}

TEST(PreemptionTest, OneTokenPerStepStillGetsThrough) {
  std::vector<ScheduledRequest> requests;
  for (int id = 1; id <= 5; ++id) requests.push_back(Request(id, 9, 9));
  const SchedulerLimits limits{
      .block_tokens = 2, .num_blocks = 9, .max_tokens_per_step = 1, .max_steps_in_flight = 2};
  EXPECT_EQ(RunAll(requests, limits).outputs, Expected(requests, 18));
}

TEST(PreemptionTest, ASequenceInFlightIsNeverTheVictim) {
  const SchedulerLimits limits{.block_tokens = 4,
                               .num_blocks = 4,
                               .max_tokens_per_step = 8,
                               .max_steps_in_flight = 2,
                               .lookahead = false};
  Scheduler scheduler(limits);
  KvMemoryGroup group(limits);
  ASSERT_EQ(scheduler.Add(Request(1, 8, 8), kNow), absl::OkStatus());
  ASSERT_EQ(scheduler.Add(Request(2, 8, 8), kNow), absl::OkStatus());
  group.Send(*scheduler.Schedule(kNow));  // prompt of 1
  group.Send(*scheduler.Schedule(kNow));  // prompt of 2
  v1::StepResult result = group.ExecuteOldest();
  ASSERT_TRUE(scheduler.Commit(result).ok());
  // 1 needs a third block; the only other holder is in flight: nothing can be done now.
  EXPECT_FALSE(scheduler.Schedule(kNow).has_value());
  EXPECT_EQ(scheduler.stats().preemptions, 0);
  result = group.ExecuteOldest();
  ASSERT_TRUE(scheduler.Commit(result).ok());
  const auto plan = scheduler.Schedule(kNow);
  ASSERT_TRUE(plan.has_value());
  EXPECT_THAT(ShowPlan(*plan), ElementsAre("1:8+1!"));
  EXPECT_EQ(scheduler.stats().preemptions, 1);
}

}  // namespace
}  // namespace tessera::coordinator
