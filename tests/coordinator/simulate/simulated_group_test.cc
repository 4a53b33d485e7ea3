// The simulated group itself: what it refuses, what it computes, when, and that a router can be
// served by it.
#include "coordinator/simulate/simulated_group.h"

#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "coordinator/simulate/simulated_worker.h"

namespace tessera::testing {
namespace {

using ::testing::HasSubstr;

struct Chunk {
  int64_t sequence = 1;
  std::vector<int32_t> tokens;
  int start = 0;
  std::vector<int32_t> blocks;
  bool draws = true;
  int64_t from_step = 0;
};

v1::StepPlan Plan(int64_t step, const std::vector<Chunk>& chunks) {
  v1::StepPlan plan;
  plan.set_step_id(step);
  for (const Chunk& chunk : chunks) {
    v1::SequenceChunk* added = plan.add_chunks();
    added->set_sequence_id(chunk.sequence);
    added->mutable_token_ids()->Add(chunk.tokens.begin(), chunk.tokens.end());
    added->set_start_position(chunk.start);
    added->mutable_block_table()->Add(chunk.blocks.begin(), chunk.blocks.end());
    if (chunk.draws) added->mutable_sampling();
    added->set_last_token_from_step(chunk.from_step);
  }
  return plan;
}

class SimulatedWorkerTest : public ::testing::Test {
 protected:
  int32_t OneToken(const v1::StepPlan& plan) {
    const absl::StatusOr<v1::StepResult> result = worker_.Execute(plan);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() && result->tokens_size() == 1 ? result->tokens(0).token_id() : -1;
  }

  std::string Refusal(const v1::StepPlan& plan) {
    return std::string(worker_.Execute(plan).status().message());
  }

  const SimulatedModel model_;
  SimulatedWorker worker_{{.num_blocks = 8, .block_tokens = 2}};
};

TEST_F(SimulatedWorkerTest, ChunksAndDecodesGiveTheModelsTokens) {
  const std::vector<int32_t> prompt = {1, 2, 3, 4, 5};
  const std::vector<int32_t> expected = model_.Continue(prompt, {}, 3);
  ASSERT_TRUE(worker_.Execute(Plan(1, {{1, {1, 2, 3}, 0, {6, 2}, false}})).ok());
  EXPECT_EQ(OneToken(Plan(2, {{1, {4, 5}, 3, {6, 2, 0}}})), expected[0]);
  EXPECT_EQ(OneToken(Plan(3, {{1, {expected[0]}, 5, {6, 2, 0}}})), expected[1]);
  EXPECT_EQ(OneToken(Plan(4, {{1, {-1}, 6, {6, 2, 0, 1}, true, 3}})), expected[2]);
}

TEST_F(SimulatedWorkerTest, ACopiedBlockGoesOnLikeItsSource) {
  ASSERT_TRUE(worker_.Execute(Plan(1, {{1, {1, 2, 3}, 0, {0, 1}}})).ok());
  v1::StepPlan plan = Plan(2, {{2, {9}, 3, {0, 5}}});
  EXPECT_THAT(Refusal(plan), HasSubstr("another sequence's"));
  plan.add_copies()->set_source(1);
  plan.mutable_copies(0)->set_destination(5);
  EXPECT_EQ(OneToken(plan), model_.Continue({1, 2, 3, 9}, {}, 1)[0]);
}

TEST_F(SimulatedWorkerTest, RefusesWhatBreaksTheProtocol) {
  EXPECT_THAT(Refusal(Plan(7, {})), HasSubstr("step 7: no chunks"));
  EXPECT_THAT(Refusal(Plan(1, {{1, {}, 0, {}}})), HasSubstr("no tokens"));
  EXPECT_THAT(Refusal(Plan(1, {{1, {1, 2, 3}, 0, {0}}})), HasSubstr("expected 2"));
  EXPECT_THAT(Refusal(Plan(1, {{1, {1}, 0, {8}}})), HasSubstr("block 8 of 8"));
  EXPECT_THAT(Refusal(Plan(1, {{1, {1}, 0, {-1}}})), HasSubstr("block -1"));
  EXPECT_THAT(Refusal(Plan(1, {{1, {259}, 0, {0}}})), HasSubstr("token 259"));
  EXPECT_THAT(Refusal(Plan(1, {{1, {-1}, 0, {0}}})), HasSubstr("token -1"));
  EXPECT_THAT(Refusal(Plan(1, {{1, {5}, 1, {3}}})), HasSubstr("position 0"));
  EXPECT_THAT(Refusal(Plan(1, {{1, {1}, 0, {0}}, {2, {1}, 0, {0}}})), HasSubstr("others read"));
  EXPECT_THAT(Refusal(Plan(1, {{1, {1}, 0, {0}}, {1, {2}, 0, {1}}, {1, {3}, 0, {0}}})),
              HasSubstr("two chunks"));
  EXPECT_THAT(Refusal(Plan(1, {{1, {-1}, 0, {0}, true, 99}})), HasSubstr("step 99 drew nothing"));
  EXPECT_THAT(Refusal(Plan(1, {{1, {4}, 0, {0}, true, 99}})), HasSubstr("a -1 should stand"));
}

TEST_F(SimulatedWorkerTest, MasksAndBansDecide) {
  v1::StepPlan plan = Plan(1, {{1, {1}, 0, {0}}});
  std::string mask(33, '\0');
  mask[5] = 0x12;  // tokens 41 and 44
  plan.mutable_chunks(0)->mutable_logits_state()->set_allowed_mask(mask);
  EXPECT_THAT(OneToken(plan), ::testing::AnyOf(41, 44));
  plan.mutable_chunks(0)->mutable_logits_state()->add_banned_ids(44);
  EXPECT_EQ(OneToken(plan), 41);
  plan.mutable_chunks(0)->mutable_logits_state()->add_banned_ids(41);
  EXPECT_THAT(Refusal(plan), HasSubstr("no token may be drawn"));
}

TEST_F(SimulatedWorkerTest, TargetsAreScoredInOrder) {
  v1::StepPlan plan = Plan(1, {{1, {1, 2, 3}, 0, {0, 1}, false}});
  for (const int32_t target : {2, -1, 7}) plan.mutable_chunks(0)->add_prompt_logprob_ids(target);
  plan.mutable_chunks(0)->set_num_prompt_logprobs(2);
  const absl::StatusOr<v1::StepResult> result = worker_.Execute(plan);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->tokens_size(), 0);
  ASSERT_EQ(result->prompt_logprobs_size(), 1);
  ASSERT_EQ(result->prompt_logprobs(0).prompt_logprobs_size(), 2);
  EXPECT_EQ(result->prompt_logprobs(0).prompt_logprobs(0).token_id(), 2);
  EXPECT_EQ(result->prompt_logprobs(0).prompt_logprobs(1).token_id(), 7);
  EXPECT_EQ(result->prompt_logprobs(0).prompt_logprobs(1).top_ids_size(), 2);
}

TEST_F(SimulatedWorkerTest, ASeedCountsOnlyWithATemperature) {
  v1::SamplingParams greedy;
  v1::SamplingParams drawn;
  drawn.set_temperature(1);
  const std::vector<int32_t> first = model_.Continue({1}, greedy, 10);
  greedy.set_seed(5);
  EXPECT_EQ(model_.Continue({1}, greedy, 10), first);
  const std::vector<int32_t> unseeded = model_.Continue({1}, drawn, 10);
  drawn.set_seed(5);
  EXPECT_NE(model_.Continue({1}, drawn, 10), unseeded);
}

// ---- time ---------------------------------------------------------------------------------------

class SimulatedPipelineTest : public ::testing::Test {
 protected:
  static absl::Time At(int64_t millis) { return absl::UnixEpoch() + absl::Milliseconds(millis); }
  static int64_t Millis(absl::Time time) {
    return absl::ToInt64Milliseconds(time - absl::UnixEpoch());
  }
  static v1::StepPlan Decode(int64_t step, int64_t sequence, int64_t from_step = 0) {
    return Plan(step, {{sequence, {from_step == 0 ? 1 : -1}, 4, {0}, true, from_step}});
  }
};

TEST_F(SimulatedPipelineTest, AStepCostsWhatItHolds) {
  const SimulatedCost cost = {.base = absl::Milliseconds(10),
                              .per_decode = absl::Milliseconds(2),
                              .per_prefill = absl::Milliseconds(1)};
  const v1::StepPlan plan = Plan(1, {{1, {1}, 4, {0}}, {2, {1}, 4, {1}}, {3, {1, 2, 3}, 0, {2}}});
  EXPECT_EQ(StepDuration(cost, plan), absl::Milliseconds(17));
}

TEST_F(SimulatedPipelineTest, WithoutLookaheadTheRoundTripIsAStall) {
  SimulatedPipeline pipeline({.base = absl::Milliseconds(10), .one_way = absl::Milliseconds(1)});
  const auto first = pipeline.Accept(Decode(1, 1), At(0));
  EXPECT_EQ(Millis(first.began), 1);
  EXPECT_EQ(Millis(first.arrived), 12);
  EXPECT_EQ(first.stall, absl::ZeroDuration());  // it was idle before
  const auto second = pipeline.Accept(Decode(2, 1), At(12));
  EXPECT_EQ(Millis(second.began), 13);
  EXPECT_EQ(second.stall, absl::Milliseconds(2));
  const auto other = pipeline.Accept(Decode(3, 2), At(100));
  EXPECT_EQ(other.stall, absl::ZeroDuration());  // nothing was there to compute
}

TEST_F(SimulatedPipelineTest, AStepAheadBeginsWhenItsTokenIsDrawn) {
  SimulatedPipeline pipeline({.base = absl::Milliseconds(10), .one_way = absl::Milliseconds(1)});
  pipeline.Accept(Decode(1, 1), At(0));
  const auto ahead = pipeline.Accept(Decode(2, 1, 1), At(0));
  EXPECT_EQ(Millis(ahead.began), 11);
  EXPECT_EQ(Millis(ahead.arrived), 22);
  EXPECT_EQ(ahead.stall, absl::ZeroDuration());
}

TEST_F(SimulatedPipelineTest, StagesOverlapStepsOfDifferentSequences) {
  SimulatedPipeline pipeline({.base = absl::Milliseconds(10), .stages = 2});
  EXPECT_EQ(Millis(pipeline.Accept(Decode(1, 1), At(0)).ended), 10);
  EXPECT_EQ(Millis(pipeline.Accept(Decode(2, 2), At(0)).ended), 15);
  EXPECT_EQ(Millis(pipeline.Accept(Decode(3, 1, 1), At(0)).began), 10);  // needs its token
}

// ---- through the seam ---------------------------------------------------------------------------

// An observer that sends one plan after the other and remembers what comes back.
class Observer final : public coordinator::GroupObserver {
 public:
  static constexpr coordinator::GroupHandle kHandle{7};

  absl::StatusOr<coordinator::JoinedGroup> OnJoin(
      const v1::Hello& hello, std::shared_ptr<coordinator::GroupTransport> transport) override {
    if (hello.world_size() != 1) return absl::InvalidArgumentError("one rank, please");
    transport_ = std::move(transport);
    coordinator::JoinedGroup joined{.handle = kHandle, .plan = {}};
    joined.plan.set_num_kv_blocks(4);
    joined.plan.set_kv_block_tokens(2);
    joined.plan.set_pipeline_parallel_size(1);
    return joined;
  }
  void OnRankReport(coordinator::GroupHandle, const v1::RankReport&) override {}
  void OnReady(coordinator::GroupHandle group) override { ready_ = group == kHandle; }
  void OnStepResult(coordinator::GroupHandle group, v1::StepResult result) override {
    EXPECT_EQ(group, kHandle);
    std::lock_guard<std::mutex> lock(mu_);
    results_.push_back(std::move(result));
    changed_.notify_all();
  }
  void OnLost(coordinator::GroupHandle group, absl::Status why) override {
    EXPECT_EQ(group, kHandle);
    std::lock_guard<std::mutex> lock(mu_);
    lost_ = std::move(why);
    changed_.notify_all();
  }

  bool WaitForResults(size_t count) {
    std::unique_lock<std::mutex> lock(mu_);
    return changed_.wait_for(lock, std::chrono::seconds(60),
                             [&] { return results_.size() >= count; });
  }
  absl::Status WaitLost() {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait_for(lock, std::chrono::seconds(60), [&] { return lost_.has_value(); });
    return lost_.value_or(absl::UnknownError("never lost"));
  }

  std::shared_ptr<coordinator::GroupTransport> transport_;
  bool ready_ = false;
  std::vector<v1::StepResult> results_;  // read after WaitForResults

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  std::optional<absl::Status> lost_;
};

TEST(SimulatedGroupTest, AnswersInOrderAndEndsInOrder) {
  for (const SimulatedCost& cost :
       {SimulatedCost{}, SimulatedCost{.base = absl::Milliseconds(1)}}) {
    Observer observer;
    const auto group = SimulatedGroup::Start(&observer, {.cost = cost});
    ASSERT_TRUE(group.ok()) << group.status();
    EXPECT_TRUE(observer.ready_);
    const std::vector<int32_t> expected = SimulatedModel{}.Continue({1, 2}, {}, 2);
    ASSERT_TRUE(observer.transport_->SendPlan(Plan(1, {{1, {1, 2}, 0, {3}}})).ok());
    ASSERT_TRUE(observer.transport_->SendPlan(Plan(2, {{1, {-1}, 2, {3, 0}, true, 1}})).ok());
    ASSERT_TRUE(observer.WaitForResults(2));
    EXPECT_EQ(observer.results_[0].tokens(0).token_id(), expected[0]);
    EXPECT_EQ(observer.results_[1].tokens(0).token_id(), expected[1]);
    observer.transport_->Shutdown("enough");
    EXPECT_TRUE(observer.WaitLost().ok());
    EXPECT_TRUE(absl::IsUnavailable(observer.transport_->SendPlan(Plan(3, {{1, {1}, 0, {0}}}))));
    EXPECT_EQ((*group)->steps(), 2);
  }
}

TEST(SimulatedGroupTest, AnswersNothingWhileHeld) {
  Observer observer;
  const auto group = SimulatedGroup::Start(&observer, {});
  ASSERT_TRUE(group.ok());
  (*group)->SetHeld(true);
  ASSERT_TRUE(observer.transport_->SendPlan(Plan(1, {{1, {1, 2}, 0, {3}}})).ok());
  EXPECT_EQ((*group)->steps(), 0);
  (*group)->SetHeld(false);
  EXPECT_TRUE(observer.WaitForResults(1));
  (*group)->SetHeld(true);
  (*group)->Lose(absl::UnavailableError("held or not"));
  EXPECT_EQ(observer.WaitLost(), absl::UnavailableError("held or not"));
}

TEST(SimulatedGroupTest, IsLostForTheReasonGiven) {
  Observer observer;
  auto group = SimulatedGroup::Start(&observer, {});
  ASSERT_TRUE(group.ok());
  (*group)->Lose(absl::UnavailableError("a rank died"));
  EXPECT_EQ(observer.WaitLost(), absl::UnavailableError("a rank died"));
  group->reset();
}

TEST(SimulatedGroupTest, APlanThatBreaksTheProtocolEndsIt) {
  Observer observer;
  const auto group = SimulatedGroup::Start(&observer, {});
  ASSERT_TRUE(group.ok());
  ASSERT_TRUE(observer.transport_->SendPlan(Plan(1, {{1, {1}, 0, {4}}})).ok());
  EXPECT_THAT(std::string(observer.WaitLost().message()), HasSubstr("block 4 of 4"));
}

TEST(SimulatedGroupTest, TakesNoForAnAnswer) {
  Observer observer;
  EXPECT_EQ(SimulatedGroup::Start(&observer, {.world_size = 2}).status(),
            absl::InvalidArgumentError("one rank, please"));
}

}  // namespace
}  // namespace tessera::testing
