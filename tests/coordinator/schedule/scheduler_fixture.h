// A scheduler with a fake group, tick by tick.
//
//   Start(Limits());
//   Add(Request(1, 40));
//   EXPECT_THAT(Tick(), ElementsAre("1:0+40!"));
//
// Sequences are shown by the scheduler's ids, which count from 1 in the order of Add, choice by
// choice.
#ifndef TESSERA_TESTS_COORDINATOR_SCHEDULE_SCHEDULER_FIXTURE_H_
#define TESSERA_TESTS_COORDINATOR_SCHEDULE_SCHEDULER_FIXTURE_H_

#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/schedule/scheduler.h"
#include "tests/coordinator/schedule/kv_memory_group.h"

namespace tessera::testing {

inline const absl::Time kNow = absl::FromUnixSeconds(1'000);

// Its prompt shares no prefix with that of another id.
inline coordinator::ScheduledRequest Request(int64_t id, int prompt_tokens, int max_tokens = 4) {
  coordinator::ScheduledRequest request;
  request.id = id;
  request.prompt_ids.resize(static_cast<size_t>(prompt_tokens));
  for (size_t i = 0; i < request.prompt_ids.size(); ++i) {
    request.prompt_ids[i] = static_cast<int32_t>((static_cast<size_t>(id) + i) % kFakeVocab);
  }
  request.max_tokens = max_tokens;
  request.sampling.set_seed(static_cast<uint64_t>(id));
  return request;
}

inline std::vector<int64_t> Ids(const std::vector<coordinator::Emission>& emissions) {
  std::vector<int64_t> ids;
  for (const auto& emission : emissions) ids.push_back(emission.request_id);
  return ids;
}

inline std::vector<int64_t> Ids(const std::vector<coordinator::ScheduledRequest>& requests) {
  std::vector<int64_t> ids;
  for (const auto& request : requests) ids.push_back(request.id);
  return ids;
}

class SchedulerTest : public ::testing::Test {
 protected:
  // One step at a time.
  static coordinator::SchedulerLimits Limits() {
    return {.block_tokens = 16, .num_blocks = 64, .lookahead = false, .vocab_size = kFakeVocab};
  }

  void Start(const coordinator::SchedulerLimits& limits) {
    limits_ = limits;
    scheduler_ = std::make_unique<coordinator::Scheduler>(limits);
    group_ = std::make_unique<KvMemoryGroup>(limits);
  }

  void Add(const coordinator::ScheduledRequest& request) {
    ASSERT_EQ(scheduler_->Add(request, kNow), absl::OkStatus());
  }

  // Schedules without an answer yet.
  std::vector<std::string> Send(absl::Time now = kNow) {
    plan_ = scheduler_->Schedule(now);
    if (plan_) group_->Send(*plan_);
    return plan_ ? ShowPlan(*plan_) : std::vector<std::string>();
  }

  std::vector<coordinator::Emission> Answer(int64_t compute_micros = 0) {
    v1::StepResult& result = results_.emplace_back(group_->ExecuteOldest());
    result.set_compute_micros(compute_micros);
    auto emissions = scheduler_->Commit(result);
    if (!emissions.ok()) ADD_FAILURE() << emissions.status();
    last_ = emissions.ok() ? *emissions : std::vector<coordinator::Emission>();
    for (const auto& emission : last_) {
      if (!emission.token) continue;
      outputs_[{emission.request_id, emission.choice}].push_back(emission.token->token_id());
    }
    return last_;
  }

  // One whole tick.
  std::vector<std::string> Tick() {
    auto chunks = Send();
    if (!chunks.empty()) Answer();
    return chunks;
  }

  // As many steps in flight as allowed, until nothing is left to do.
  void RunToTheEnd() {
    for (int i = 0; i < 10'000 && !scheduler_->idle(); ++i) {
      while (!Send().empty()) {
      }
      ASSERT_GT(group_->in_flight(), 0u) << "stuck";
      Answer();
    }
    while (group_->in_flight() > 0) Answer();
    EXPECT_TRUE(scheduler_->idle());
    EXPECT_EQ(free_blocks(), limits_.num_blocks);
  }

  int free_blocks() const { return scheduler_->stats().blocks_free; }
  std::vector<int32_t> output(int64_t id, int choice = 0) { return outputs_[{id, choice}]; }

  coordinator::SchedulerLimits limits_;
  std::unique_ptr<coordinator::Scheduler> scheduler_;
  std::unique_ptr<KvMemoryGroup> group_;
  std::optional<v1::StepPlan> plan_;         // of the last Send
  std::vector<coordinator::Emission> last_;  // of the last Answer
  std::deque<v1::StepResult> results_;       // all that were answered: emissions hold their tokens
  std::map<std::pair<int64_t, int>, std::vector<int32_t>> outputs_;  // by request and choice
};

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_COORDINATOR_SCHEDULE_SCHEDULER_FIXTURE_H_
