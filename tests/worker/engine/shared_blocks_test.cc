// Sequences that share KV blocks, or a copy of one, compute what each would alone, to the last bit.
#include <cstdint>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/in_process_group.h"
#include "tests/worker/engine/plan_list.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

std::vector<int32_t> Tokens(int count, int32_t seed) {
  std::vector<int32_t> ids(count);
  for (int i = 0; i < count; ++i) ids[i] = (seed * 31 + i * 17) % 120 + 3;
  return ids;
}

v1::StepPlan Step(int64_t id) {
  v1::StepPlan step;
  step.set_step_id(id);
  return step;
}

std::vector<v1::StepResult> RunSteps(const ModelFile& file, const v1::ShardPlan& plan,
                                const std::vector<v1::StepPlan>& steps) {
  PlanList list(steps);
  const absl::Status status = RunInProcessGroup(file, plan, &list, {});
  EXPECT_TRUE(status.ok()) << status;
  return list.results();
}

// Logits of `ids` behind the first `shared`, all computed in one step in blocks of their own.
std::vector<float> LogitsAlone(const ModelFile& file, const v1::ShardPlan& plan,
                               const std::vector<int32_t>& ids, int shared) {
  v1::StepPlan step = Step(1);
  std::vector<int32_t> blocks;
  const size_t count = (ids.size() + plan.kv_block_tokens() - 1) / plan.kv_block_tokens();
  for (size_t i = 0; i < count; ++i) blocks.push_back(static_cast<int32_t>(40 - i));
  AddChunk(step, 1, 0, ids, blocks).set_return_logits(true);
  const std::vector<float> logits = LogitsOf(RunSteps(file, plan, {step})[0], 0);
  const size_t vocab = logits.size() / ids.size();
  return {logits.begin() + static_cast<int64_t>(shared * vocab), logits.end()};
}

std::vector<int32_t> Joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class SharedBlocksTest : public testing::TestWithParam<std::pair<int, int>> {
 protected:
  const std::unique_ptr<ModelFile> file_ = OpenTinyModel("llama");
  const v1::ShardPlan plan_ = PlanOf(*file_, GetParam().first, GetParam().second);
  const int block_ = plan_.kv_block_tokens();
};

TEST_P(SharedBlocksTest, APrefixComputedOnceServesThreeSequencesOfOneStep) {
  const std::vector<int32_t> prefix = Tokens(2 * block_, 1);
  v1::StepPlan first = Step(1);
  AddChunk(first, 1, 0, prefix, {5, 3});
  v1::StepPlan second = Step(2);
  const std::vector<std::vector<int32_t>> tails = {Tokens(1, 2), Tokens(block_ + 3, 3),
                                                   Tokens(block_, 4)};
  AddChunk(second, 1, 2 * block_, tails[0], {5, 3, 7}).set_return_logits(true);
  AddChunk(second, 2, 2 * block_, tails[1], {5, 3, 9, 8}).set_return_logits(true);
  AddChunk(second, 3, 2 * block_, tails[2], {5, 3, 2}).set_return_logits(true);
  const auto results = RunSteps(*file_, plan_, {first, second});
  ASSERT_EQ(results.size(), 2u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(LogitsOf(results[1], i),
              LogitsAlone(*file_, plan_, Joined(prefix, tails[i]), 2 * block_))
        << i;
  }
}

// Two continuations of one prompt whose last block is half full: one gets a copy of it, the other
// writes on in the original, in the same step.
TEST_P(SharedBlocksTest, ACopiedBlockIsContinuedApartFromTheOriginal) {
  const int half = block_ / 2;
  const std::vector<int32_t> prompt = Tokens(block_ + half, 1);
  v1::StepPlan first = Step(1);
  AddChunk(first, 1, 0, prompt, {5, 3});
  v1::StepPlan second = Step(2);
  v1::BlockCopy& copy = *second.add_copies();
  copy.set_source(3);
  copy.set_destination(6);
  const std::vector<std::vector<int32_t>> tails = {Tokens(half, 2), Tokens(half + 2, 3)};
  const int start = block_ + half;
  AddChunk(second, 1, start, tails[0], {5, 3}).set_return_logits(true);
  AddChunk(second, 2, start, tails[1], {5, 6, 1}).set_return_logits(true);
  // And once more from what they wrote, copies in order: 3 → 8 → 9.
  v1::StepPlan third = Step(3);
  for (auto [source, destination] : {std::pair{3, 8}, {8, 9}}) {
    v1::BlockCopy& next = *third.add_copies();
    next.set_source(source);
    next.set_destination(destination);
  }
  AddChunk(third, 3, start, tails[1], {5, 8, 2}).set_return_logits(true);
  AddChunk(third, 4, start + half - 1, Tokens(3, 9), {5, 9, 4}).set_return_logits(true);

  const auto results = RunSteps(*file_, plan_, {first, second, third});
  ASSERT_EQ(results.size(), 3u);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(LogitsOf(results[1], i),
              LogitsAlone(*file_, plan_, Joined(prompt, tails[i]), start)) << i;
  }
  EXPECT_EQ(LogitsOf(results[2], 0), LogitsOf(results[1], 1));
  std::vector<int32_t> fourth = Joined(prompt, tails[0]);
  fourth.pop_back();
  EXPECT_EQ(LogitsOf(results[2], 1),
            LogitsAlone(*file_, plan_, Joined(fourth, Tokens(3, 9)), start + half - 1));
}

INSTANTIATE_TEST_SUITE_P(Layouts, SharedBlocksTest,
                         testing::Values(std::pair(1, 1), std::pair(2, 1), std::pair(1, 3),
                                         std::pair(2, 2)));

}  // namespace
}  // namespace tessera::worker
