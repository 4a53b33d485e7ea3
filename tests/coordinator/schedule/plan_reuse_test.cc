// A plan that is written over the one before says the same as a new one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "coordinator/schedule/scheduler.h"

namespace tessera::coordinator {
namespace {

const absl::Time kNow = absl::UnixEpoch();

SchedulerLimits Limits() {
  SchedulerLimits limits;
  limits.block_tokens = 4;
  limits.num_blocks = 64;
  limits.max_tokens_per_step = 24;
  limits.max_sequences_per_step = 6;
  limits.vocab_size = 100;
  return limits;
}

// Every third is scored only, every other one has bans and a bias, some have two choices: so the
// chunks at one place of the plan differ in all their fields from step to step.
ScheduledRequest Request(int64_t id) {
  ScheduledRequest request;
  request.id = id;
  for (int i = 0; i < 3 + id * 5 % 17; ++i) {
    request.prompt_ids.push_back(static_cast<int32_t>((id * 7 + i) % 100));
  }
  request.max_tokens = static_cast<int>(2 + id * 3 % 7);
  if (id % 3 == 0) {
    request.max_tokens = 0;
    request.prompt_logprobs_from = 1;
  } else if (id % 2 == 0) {
    request.min_tokens = 2;
    request.stop_ids = {5};
    request.sampling.add_bias_ids(9);
    request.sampling.add_bias_values(-1);
    request.sampling.set_repetition_penalty(1.5f);
  } else if (id % 5 == 0) {
    request.seeds = {1, 2};
  }
  return request;
}

v1::StepResult Answer(const v1::StepPlan& plan) {
  v1::StepResult result;
  result.set_step_id(plan.step_id());
  for (const v1::SequenceChunk& chunk : plan.chunks()) {
    if (chunk.has_sampling()) {
      v1::SampledToken* token = result.add_tokens();
      token->set_sequence_id(chunk.sequence_id());
      token->set_token_id(static_cast<int32_t>(chunk.sequence_id() + plan.step_id()) % 100);
    }
    if (chunk.prompt_logprob_ids_size() == 0) continue;
    v1::ChunkPromptLogprobs* targets = result.add_prompt_logprobs();
    targets->set_sequence_id(chunk.sequence_id());
    for (const int32_t id : chunk.prompt_logprob_ids()) {
      if (id < 0) continue;
      v1::PromptLogprob* target = targets->add_prompt_logprobs();
      target->set_token_id(id);
      target->set_vocab_rank(1);
    }
  }
  return result;
}

TEST(PlanReuseTest, APlanWrittenOverAnotherSaysTheSameAsANewOne) {
  Scheduler reusing(Limits());
  Scheduler renewing(Limits());
  v1::StepPlan plan;
  std::vector<Emission> emissions;
  int64_t next_id = 1;
  int fewest_chunks = 1000;
  int most_chunks = 0;
  for (int step = 0; step < 400; ++step) {
    for (; next_id <= 60 && step >= 3 * next_id; ++next_id) {
      ASSERT_TRUE(reusing.Add(Request(next_id), kNow).ok());
      ASSERT_TRUE(renewing.Add(Request(next_id), kNow).ok());
    }
    const std::optional<v1::StepPlan> fresh = renewing.Schedule(kNow);
    ASSERT_EQ(reusing.Schedule(kNow, &plan), fresh.has_value());
    if (!fresh) continue;
    ASSERT_EQ(plan.DebugString(), fresh->DebugString()) << "step " << step;
    fewest_chunks = std::min(fewest_chunks, plan.chunks_size());
    most_chunks = std::max(most_chunks, plan.chunks_size());
    const v1::StepResult answer = Answer(*fresh);
    const auto renewed = renewing.Commit(answer);
    ASSERT_TRUE(renewed.ok()) << renewed.status();
    const absl::Status committed = reusing.Commit(answer, &emissions);
    ASSERT_TRUE(committed.ok()) << committed;
    ASSERT_EQ(emissions.size(), renewed->size());
  }
  EXPECT_EQ(next_id, 61);
  EXPECT_TRUE(reusing.idle());
  EXPECT_LT(fewest_chunks, most_chunks);
}

}  // namespace
}  // namespace tessera::coordinator
