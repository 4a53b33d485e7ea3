// Plans that leave before the tokens they continue from are known give the tokens of plans that
// waited for them; and plans that name tokens nobody samples end the group.
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/in_process_group.h"
#include "tests/worker/engine/plan_list.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

using testing::HasSubstr;

// Eight requests that each ask for something else, among it everything that looks back at the
// tokens sampled before.
std::vector<GenerationRequest> MixedRequests(int32_t vocab, int tokens) {
  std::vector<GenerationRequest> requests = EightPrompts(vocab, tokens, /*return_logits=*/true);
  for (size_t i = 0; i < requests.size(); ++i) {
    v1::SamplingParams& sampling = requests[i].sampling;
    sampling.set_seed(i);
    if (i % 2 == 1) sampling.set_temperature(0.9f);
    if (i % 4 == 3) sampling.set_top_p(0.8f);
    if (i % 3 == 1) sampling.set_repetition_penalty(1.5f);
    if (i % 3 == 2) sampling.set_frequency_penalty(0.7f);
    if (i % 4 == 2) sampling.set_presence_penalty(2);
    if (i == 4) sampling.set_num_logprobs(2);
    if (i == 5) requests[i].logits_state.set_allowed_mask(std::string((vocab + 7) / 8, '\x5b'));
  }
  requests[6].max_new_tokens = 1;
  requests[7].max_new_tokens = 0;
  return requests;
}

struct Played {
  std::vector<GenerationResult> results;
  int64_t tokens_ahead = 0;
};

Played Play(const ModelFile& file, const v1::ShardPlan& plan,
            const std::vector<GenerationRequest>& requests, const GenerationOptions& options) {
  GenerationScript script(plan, requests, options);
  const absl::Status status = RunInProcessGroup(file, plan, &script, {});
  EXPECT_TRUE(status.ok()) << status;
  return {script.results(), script.tokens_ahead()};
}

class AsyncSchedulingTest : public testing::TestWithParam<std::pair<int, int>> {};

TEST_P(AsyncSchedulingTest, GivesTheTokensOfThePlainSequence) {
  const auto file = OpenTinyModel("llama");
  const v1::ShardPlan plan = PlanOf(*file, GetParam().first, GetParam().second);
  const int stages = plan.pipeline_parallel_size();
  const auto requests =
      MixedRequests(file->description().architecture().vocab_size(), /*tokens=*/24);
  const Played plain = Play(*file, plan, requests, {.steps_in_flight = stages});
  EXPECT_EQ(plain.tokens_ahead, 0);
  ASSERT_EQ(plain.results[0].tokens.size(), 24u);
  for (int prompt_chunk : {512, 7}) {
    const Played ahead =
        Play(*file, plan, requests,
             {.prompt_chunk = prompt_chunk, .steps_in_flight = stages, .async_scheduling = true});
    EXPECT_GT(ahead.tokens_ahead, 100);  // of 6 × 23
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(ahead.results[i].tokens, plain.results[i].tokens) << i;
      EXPECT_TRUE(ahead.results[i].logits == plain.results[i].logits) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, AsyncSchedulingTest,
                         testing::Values(std::pair(1, 1), std::pair(2, 1), std::pair(1, 2),
                                         std::pair(2, 2), std::pair(1, 3)));

TEST(AsyncSchedulingTest, PenaltiesSeeTheTokenTheyWaitedFor) {
  const auto file = OpenTinyModel("llama");
  GenerationRequest request{.prompt = {5, 6, 7}, .max_new_tokens = 40};
  // No token twice: the most that may be asked for.
  request.sampling.set_repetition_penalty(100);
  request.sampling.set_presence_penalty(2);
  request.sampling.set_frequency_penalty(2);
  const v1::ShardPlan plan = PlanOf(*file, 1, 2);
  const auto result = Play(*file, plan, {request}, {.async_scheduling = true}).results[0];
  const std::set<int32_t> distinct(result.tokens.begin(), result.tokens.end());
  EXPECT_EQ(distinct.size(), 40u);
}

v1::StepPlan FirstStep() {
  v1::StepPlan step;
  step.set_step_id(1);
  *AddChunk(step, 1, 0, {5, 6, 7}, {0}).mutable_sampling() = GreedyParams();
  AddChunk(step, 2, 0, {5, 6, 7}, {1});
  return step;
}

// Sequence `sequence` continues from step `from`.
v1::StepPlan NextStep(int64_t id, int64_t sequence, int64_t from) {
  v1::StepPlan step;
  step.set_step_id(id);
  AddChunk(step, sequence, 3, {-1}, {0}).set_last_token_from_step(from);
  return step;
}

TEST(AsyncSchedulingTest, ATokenThatNoStepSamplesEndsTheGroupAsInvalid) {
  const auto file = OpenTinyModel("llama");
  for (const v1::StepPlan& lie : {NextStep(2, 1, 7), NextStep(2, 2, 1), NextStep(2, 1, 2)}) {
    for (auto [tp, pp] : {std::pair{1, 1}, {2, 2}}) {
      PlanList list({FirstStep(), lie});
      const auto ended = ServeInProcess(*file, PlanOf(*file, tp, pp), &list, {});
      EXPECT_EQ(ended[0].code(), absl::StatusCode::kInvalidArgument) << ended[0];
      EXPECT_THAT(std::string(ended[0].message()), HasSubstr("last_token_from_step"));
      for (size_t i = 1; i < ended.size(); ++i) {
        EXPECT_EQ(ended[i].code(), absl::StatusCode::kAborted) << ended[i];
      }
    }
  }
}

TEST(AsyncSchedulingTest, ThePlanIsCheckedOnceItsTokenIsThere) {
  const auto file = OpenTinyModel("llama");
  v1::StepPlan lie = NextStep(2, 1, 1);
  lie.mutable_chunks(0)->set_block_table(0, 1 << 30);
  PlanList list({FirstStep(), lie});
  const auto ended = ServeInProcess(*file, PlanOf(*file, 1, 2), &list, {});
  EXPECT_EQ(ended[0].code(), absl::StatusCode::kInvalidArgument) << ended[0];
  EXPECT_EQ(list.results().size(), 1u);  // the first step's, handed back before
}

}  // namespace
}  // namespace tessera::worker
