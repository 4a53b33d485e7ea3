// Async scheduling on one simulated GPU (kernels/simulated): what is launched when, the
// tokens of steps that wait, what becomes of a step that was not wanted, and a GPU that stands
// still.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "kernels/simulated/journal.h"
#include "tests/worker/engine/async_journal.h"
#include "tests/worker/engine/in_process_group.h"
#include "tests/worker/engine/plan_list.h"
#include "tests/worker/engine/test_models.h"

namespace tessera::worker {
namespace {

using testing::HasSubstr;

InProcessGroupOptions OnGpu() {
  InProcessGroupOptions group;
  group.engine.device = "cuda";
  group.engine.device_options.deterministic = true;
  return group;
}

struct Played {
  std::vector<GenerationResult> results;
  Journal journal;
  int64_t tokens_ahead = 0;

  int64_t fed() const { return Count(journal, "launch FillPlaceholders"); }
};

Played Play(const ModelFile& file, const std::vector<GenerationRequest>& requests,
            const GenerationOptions& options) {
  coordinator::Layout layout;
  layout.max_sequences_per_step = 80;
  const v1::ShardPlan plan = PlanOf(file, layout);
  GenerationScript script(plan, requests, options);
  gpu_stubs::StartJournal();
  const absl::Status status = RunInProcessGroup(file, plan, &script, OnGpu());
  EXPECT_TRUE(status.ok()) << status;
  return {script.results(), gpu_stubs::StopJournal(), script.tokens_ahead()};
}

TEST(GpuAsyncSchedulingTest, GivesTheTokensOfStepsThatWait) {
  const auto file = OpenTinyModel("llama");
  const int32_t vocab = file->description().architecture().vocab_size();
  for (size_t others : {0, 3}) {
    std::vector<GenerationRequest> requests = AsyncRequests(vocab, others);
    const Played ahead = Play(*file, requests, {.prompt_chunk = 9, .async_scheduling = true});
    EXPECT_GE(ahead.fed(), 4) << others;
    const Played one_by_one = Play(*file, requests, {.prompt_chunk = 9});
    EXPECT_EQ(one_by_one.fed(), 0);
    ExpectSameAnswers(ahead.results, one_by_one.results, absl::StrCat(others, " others, one by one"));
    // Logits are read on the host, so that no step is left on the device.
    for (GenerationRequest& request : requests) request.return_logits = true;
    const Played waiting = Play(*file, requests, {.prompt_chunk = 9, .async_scheduling = true});
    EXPECT_EQ(waiting.fed(), 0);
    EXPECT_EQ(std::count_if(waiting.journal.begin(), waiting.journal.end(),
                            [](const auto& line) { return absl::StartsWith(line, "query"); }),
              0);
    ExpectSameAnswers(ahead.results, waiting.results, absl::StrCat(others, " others, with logits"));
  }
}

TEST(GpuAsyncSchedulingTest, MoreSequencesThanTheOutputHeadTakesAtOnce) {
  const auto file = OpenTinyModel("llama");
  std::vector<GenerationRequest> requests(70, {.prompt = {1}, .max_new_tokens = 4});
  for (size_t i = 0; i < requests.size(); ++i) requests[i].prompt[0] = static_cast<int32_t>(i);
  const Played ahead = Play(*file, requests, {.async_scheduling = true});
  EXPECT_EQ(ahead.fed(), 2);  // but for the step before which memory for so many rows was made
  for (size_t i : {size_t{0}, size_t{63}, size_t{64}, size_t{69}}) {
    const Played alone = Play(*file, {requests[i]}, {});
    EXPECT_EQ(ahead.results[i].tokens, alone.results[0].tokens) << i;
  }
}

TEST(GpuAsyncSchedulingTest, TheNextStepIsLaunchedWhileTheLastOneRuns) {
  const auto file = OpenTinyModel("llama");
  const int tokens = 14;
  const Played played =
      Play(*file, {{.prompt = {5, 6, 7}, .max_new_tokens = tokens}}, {.async_scheduling = true});
  const Journal& journal = played.journal;
  const std::vector<StepLines> steps = SamplingSteps(journal);
  ASSERT_EQ(steps.size(), static_cast<size_t>(tokens));
  // The prompt, the first step of one row (whose memory is made) and the second (recorded) differ.
  for (size_t k = 3; k + 1 < steps.size(); ++k) {
    const StepLines& step = steps[k];
    const StepLines& next = steps[k + 1];
    SCOPED_TRACE(absl::StrCat("step ", k, ":\n", Quoted(journal, step.begin, next.passed + 1)));
    ASSERT_LT(step.passed, journal.size());
    // Nobody knows this step's token until all of the next one is on the device.
    EXPECT_LT(next.recorded, step.passed);
    EXPECT_EQ(std::count(journal.begin() + step.recorded, journal.begin() + next.recorded,
                         std::string("launch FillPlaceholders")),
              1);
    // The host launches one graph and what stands around it, whatever the layers; and waits for
    // nothing but that the arrays of the step before, which lie before its graph, are copied.
    Journal told;
    for (size_t i = step.recorded + 1; i < next.recorded; ++i) {
      const std::string kind = journal[i].substr(0, journal[i].find_first_of(' '));
      if (kind == "launch" || kind == "graph" || kind == "synchronize") told.push_back(journal[i]);
      if (kind != "wait") continue;
      const std::string event = journal[i].substr(5);
      const auto graph = std::find(journal.begin() + step.begin, journal.end(), "graph");
      EXPECT_NE(std::find(journal.begin() + step.begin, graph, "record " + event), graph);
    }
    EXPECT_THAT(told,
                testing::ElementsAre("launch FillPlaceholders", "launch Embed", "graph",
                                     "launch RmsNorm", HasSubstr("MatMul"), "launch SampleRows"));
  }
}

v1::StepPlan Step(int64_t id) {
  v1::StepPlan step;
  step.set_step_id(id);
  return step;
}

v1::SequenceChunk& AddSampling(v1::StepPlan& step, int64_t sequence_id, int start,
                               const std::vector<int32_t>& ids, int32_t block) {
  v1::SequenceChunk& chunk = AddChunk(step, sequence_id, start, ids, {block});
  *chunk.mutable_sampling() = GreedyParams();
  return chunk;
}

// Sequence 1's token of step 2 ends it, which the coordinator learns when step 3 is on its way. In
// step 4 another sequence has its block.
TEST(GpuAsyncSchedulingTest, AStepForASequenceThatHasEndedSpoilsNothing) {
  const auto file = OpenTinyModel("llama");
  std::vector<v1::StepPlan> plans = {Step(1), Step(2), Step(3), Step(4), Step(5), Step(6)};
  AddSampling(plans[0], 1, 0, {5, 6, 7}, 0);
  AddSampling(plans[0], 2, 0, {8, 9}, 1);
  for (int i : {1, 2}) AddSampling(plans[i], 1, 2 + i, {-1}, 0).set_last_token_from_step(i);
  for (int i : {1, 2, 3, 4}) AddSampling(plans[i], 2, 1 + i, {-1}, 1).set_last_token_from_step(i);
  AddSampling(plans[3], 3, 0, {11}, 0);
  for (int i : {4, 5}) AddSampling(plans[i], 3, i - 3, {-1}, 0).set_last_token_from_step(i);
  PlanList list(plans);
  gpu_stubs::StartJournal();
  const absl::Status status = RunInProcessGroup(*file, PlanOf(*file, 1, 1), &list, OnGpu());
  const Journal journal = gpu_stubs::StopJournal();
  ASSERT_TRUE(status.ok()) << status;
  // Steps 3 to 5 of two rows each; the last one is the first of one row.
  EXPECT_EQ(Count(journal, "launch FillPlaceholders"), 3);
  std::vector<std::vector<int32_t>> tokens(4);
  for (const v1::StepResult& result : list.results()) {
    for (const v1::SampledToken& token : result.tokens()) {
      tokens[token.sequence_id()].push_back(token.token_id());
    }
  }
  const std::vector<std::vector<int32_t>> prompts = {{}, {5, 6, 7}, {8, 9}, {11}};
  for (int sequence : {1, 2, 3}) {
    const int count = static_cast<int>(tokens[sequence].size());
    EXPECT_EQ(count, sequence == 2 ? 5 : 3);
    const Played alone = Play(*file, {{.prompt = prompts[sequence], .max_new_tokens = count}}, {});
    EXPECT_EQ(tokens[sequence], alone.results[0].tokens) << sequence;
  }
}

TEST(GpuAsyncSchedulingTest, APlanBehindAnotherIsCheckedToo) {
  const auto file = OpenTinyModel("llama");
  const std::vector<std::function<void(v1::SequenceChunk&)>> lies = {
      [](auto& chunk) { chunk.set_block_table(0, 1 << 30); },
      [](auto& chunk) { chunk.set_start_position(-1); },
      [](auto& chunk) { chunk.set_start_position(2147483647); },
      [](auto& chunk) { chunk.set_token_ids(0, -2); },
      [](auto& chunk) { chunk.set_last_token_from_step(0); },
      [](auto& chunk) { chunk.set_last_token_from_step(7); },
      [](auto& chunk) { chunk.set_sequence_id(2); }};
  for (size_t i = 0; i < lies.size(); ++i) {
    std::vector<v1::StepPlan> plans = {Step(1), Step(2), Step(3)};
    AddSampling(plans[0], 1, 0, {5, 6, 7}, 0);
    for (int s : {1, 2}) AddSampling(plans[s], 1, 2 + s, {-1}, 0).set_last_token_from_step(s);
    lies[i](*plans[2].mutable_chunks(0));
    PlanList list(plans);
    const absl::Status status = RunInProcessGroup(*file, PlanOf(*file, 1, 1), &list, OnGpu());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << i << ": " << status;
  }
}

TEST(GpuAsyncSchedulingTest, TheEndWaitsForWhatIsOnTheDevice) {
  const auto file = OpenTinyModel("llama");
  std::vector<v1::StepPlan> plans = {Step(1), Step(2), Step(3), Step(4)};
  AddSampling(plans[0], 1, 0, {5, 6, 7}, 0);
  for (int i : {1, 2, 3}) AddSampling(plans[i], 1, 2 + i, {-1}, 0).set_last_token_from_step(i);
  PlanList list(plans);  // cancels at once behind the last plan
  const absl::Status status = RunInProcessGroup(*file, PlanOf(*file, 1, 1), &list, OnGpu());
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(list.results().size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(list.results()[i].step_id(), static_cast<int64_t>(i + 1));
    EXPECT_EQ(list.results()[i].tokens_size(), 1);
    EXPECT_GT(list.results()[i].compute_micros(), 0);
    // Steps 3 and 4 were there while the device had another one.
    if (i >= 2) {
      EXPECT_EQ(list.results()[i].stall_micros(), 0);
    }
  }
}

// Stops the GPU while a step is on it.
class StandingStill : public GenerationScript {
 public:
  using GenerationScript::GenerationScript;
  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration wait) override {
    auto plan = GenerationScript::NextPlan(wait);
    if (plan.ok() && !*plan && steps() == 3 && !stopped_) {
      stopped_ = true;
      gpu_stubs::StandStill(std::chrono::seconds(4));
    }
    return plan;
  }

 private:
  bool stopped_ = false;
};

TEST(GpuAsyncSchedulingTest, AGpuThatStandsStillEndsTheGroupWithinTheDeadline) {
  const auto file = OpenTinyModel("llama");
  const v1::ShardPlan plan = PlanOf(*file, 1, 1);
  StandingStill script(plan, {{.prompt = {5, 6, 7}, .max_new_tokens = 8}}, {});
  InProcessGroupOptions group = OnGpu();
  group.engine.result_deadline = absl::Seconds(2);
  const absl::Status status = RunInProcessGroup(*file, plan, &script, group);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("step 3: the device has sampled no token within 2s"));
}

}  // namespace
}  // namespace tessera::worker
