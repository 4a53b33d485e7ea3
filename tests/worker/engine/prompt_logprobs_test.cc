// Log probabilities of given tokens are those of the logits, however the prompt was cut.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/in_process_group.h"
#include "tests/worker/engine/plan_list.h"
#include "tests/worker/engine/split_sampling.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

constexpr int kPromptTokens = 150;  // more than two slices of the output head

std::vector<int32_t> Prompt() {
  std::vector<int32_t> ids;
  for (int i = 0; i < kPromptTokens; ++i) ids.push_back((i * i * 7 + i) % 125 + 2);
  return ids;
}

// The next token of the prompt is the target; every tenth has none.
std::vector<int32_t> Targets() {
  std::vector<int32_t> targets = Prompt();
  std::rotate(targets.begin(), targets.begin() + 1, targets.end());
  for (int i = 3; i < kPromptTokens; i += 10) targets[i] = -1;
  return targets;
}

// The prompt in chunks of `chunk_tokens`, each with its targets, beside another sequence.
std::vector<v1::StepPlan> Steps(const v1::ShardPlan& plan, int chunk_tokens, bool logits) {
  const std::vector<int32_t> prompt = Prompt(), targets = Targets();
  std::vector<v1::StepPlan> steps;
  std::vector<int32_t> blocks;
  for (int begin = 0; begin < kPromptTokens; begin += chunk_tokens) {
    const int end = std::min(begin + chunk_tokens, kPromptTokens);
    while (static_cast<int>(blocks.size()) * plan.kv_block_tokens() < end) {
      blocks.push_back(static_cast<int32_t>(30 - blocks.size()));
    }
    v1::StepPlan& step = steps.emplace_back();
    step.set_step_id(static_cast<int64_t>(steps.size()));
    v1::SequenceChunk& other = AddChunk(step, 2, 0, {9, 8, 7}, {40});
    for (int32_t id : {8, -1, 7}) other.add_prompt_logprob_ids(id);
    v1::SequenceChunk& chunk =
        AddChunk(step, 1, begin, {prompt.begin() + begin, prompt.begin() + end}, blocks);
    for (int i = begin; i < end; ++i) chunk.add_prompt_logprob_ids(targets[i]);
    chunk.set_num_prompt_logprobs(3);
    chunk.set_return_logits(logits);
  }
  return steps;
}

struct Outcome {
  std::vector<v1::PromptLogprob> targets;  // of sequence 1
  std::vector<float> logits;
};

Outcome RunChunks(const ModelFile& file, const v1::ShardPlan& plan, int chunk_tokens, bool logits) {
  PlanList list(Steps(plan, chunk_tokens, logits));
  const absl::Status status = RunInProcessGroup(file, plan, &list, {});
  EXPECT_TRUE(status.ok()) << status;
  Outcome outcome;
  for (const v1::StepResult& result : list.results()) {
    EXPECT_EQ(result.prompt_logprobs_size(), 2);
    if (result.prompt_logprobs_size() != 2) break;
    EXPECT_EQ(result.prompt_logprobs(0).sequence_id(), 2);
    EXPECT_EQ(result.prompt_logprobs(0).prompt_logprobs_size(), 2);
    EXPECT_EQ(result.prompt_logprobs(1).sequence_id(), 1);
    outcome.targets.insert(outcome.targets.end(),
                           result.prompt_logprobs(1).prompt_logprobs().begin(),
                           result.prompt_logprobs(1).prompt_logprobs().end());
    if (!logits) continue;
    const std::vector<float> more = LogitsOf(result, 0);
    outcome.logits.insert(outcome.logits.end(), more.begin(), more.end());
  }
  return outcome;
}

TEST(PromptLogprobsTest, AreTheLogSoftmaxOfTheLogits) {
  const auto file = OpenTinyModel("llama");
  const int vocab = file->description().architecture().vocab_size();
  for (auto [tp, pp] : {std::pair{1, 1}, {3, 1}, {1, 2}, {2, 2}}) {
    const Outcome outcome = RunChunks(*file, PlanOf(*file, tp, pp), 512, /*logits=*/true);
    size_t next = 0;
    for (int i = 0; i < kPromptTokens; ++i) {
      if (Targets()[i] == -1) continue;
      ASSERT_LT(next, outcome.targets.size());
      const v1::PromptLogprob& target = outcome.targets[next++];
      const std::vector<float> row(outcome.logits.begin() + i * vocab,
                                   outcome.logits.begin() + (i + 1) * vocab);
      const std::vector<double> expected = LogSoftmax(row);
      EXPECT_EQ(target.token_id(), Targets()[i]);
      EXPECT_NEAR(target.logprob(), expected[target.token_id()], 1e-5);
      int32_t place = 1;
      for (int32_t id = 0; id < vocab; ++id) {
        const float mine = row[target.token_id()];
        place += row[id] > mine || (row[id] == mine && id < target.token_id());
      }
      EXPECT_EQ(target.vocab_rank(), place);
      ASSERT_EQ(target.top_ids_size(), 3);
      EXPECT_EQ(row[target.top_ids(0)], *std::max_element(row.begin(), row.end()));
    }
    EXPECT_EQ(next, outcome.targets.size());
  }
}

TEST(PromptLogprobsTest, DoNotDependOnHowThePromptWasCut) {
  const auto file = OpenTinyModel("llama");
  const v1::ShardPlan plan = PlanOf(*file, 2, 2);
  const Outcome whole = RunChunks(*file, plan, 512, /*logits=*/false);
  ASSERT_EQ(whole.targets.size(), 135u);
  for (int chunk_tokens : {1, 16, 23, 100}) {
    const Outcome cut = RunChunks(*file, plan, chunk_tokens, /*logits=*/false);
    ASSERT_EQ(cut.targets.size(), whole.targets.size()) << chunk_tokens;
    for (size_t i = 0; i < cut.targets.size(); ++i) {
      EXPECT_EQ(cut.targets[i].SerializeAsString(), whole.targets[i].SerializeAsString()) << i;
    }
  }
}

// Chunks with targets and without, and one whose targets are all absent.
TEST(PromptLogprobsTest, OneResultPerChunkThatHasThem) {
  const auto file = OpenTinyModel("llama");
  v1::StepPlan step;
  step.set_step_id(1);
  AddChunk(step, 5, 0, {3, 4}, {0});
  v1::SequenceChunk& none = AddChunk(step, 6, 0, {3, 4}, {1});
  for (int i = 0; i < 2; ++i) none.add_prompt_logprob_ids(-1);
  AddChunk(step, 7, 0, {3}, {2}).add_prompt_logprob_ids(4);
  PlanList list({step});
  ASSERT_TRUE(RunInProcessGroup(*file, PlanOf(*file, 2, 1), &list, {}).ok());
  const v1::StepResult& result = list.results().at(0);
  ASSERT_EQ(result.prompt_logprobs_size(), 2);
  EXPECT_EQ(result.prompt_logprobs(0).sequence_id(), 6);
  EXPECT_EQ(result.prompt_logprobs(0).prompt_logprobs_size(), 0);
  EXPECT_EQ(result.prompt_logprobs(1).sequence_id(), 7);
  EXPECT_EQ(result.prompt_logprobs(1).prompt_logprobs(0).token_id(), 4);
}

}  // namespace
}  // namespace tessera::worker
