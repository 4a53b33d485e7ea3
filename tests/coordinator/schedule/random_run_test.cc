// Many random requests with cancels, deadlines, preemptions and lost groups. The fake group checks
// every plan; here: everyone ends exactly once, with the tokens of a run alone, and no block leaks.
#include <algorithm>
#include <map>

#include <random>

#include <gtest/gtest.h>

#include "coordinator/schedule/scheduler.h"
#include "tests/coordinator/schedule/fake_group.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::FakeGroup;
using tessera::testing::kFakeVocab;
using tessera::testing::ReferenceTokens;

class RandomRun {
 public:
  RandomRun(uint32_t seed, const SchedulerLimits& limits)
      : random_(seed), limits_(limits), scheduler_(limits), group_(limits) {}

  void Run(int64_t requests) {
    while (next_id_ < requests || !scheduler_.idle() || group_.in_flight() > 0) {
      now_ += absl::Milliseconds(1);
      const bool rush = ++ticks_ / 500 % 4 == 0;
      if (next_id_ < requests && Chance(rush ? 60 : 15)) AddOne();
      if (Chance(5)) CancelOne();
      if (Chance(80)) ScheduleOne();
      if (group_.in_flight() > 0 && Chance(70)) CommitOne();
      const bool halfway = next_id_ > requests / 2;
      if (halfway && live_.size() > 10 && aborts_ == 0) LoseTheGroup();
      if (::testing::Test::HasFailure()) return;
    }
    const SchedulerStats stats = scheduler_.stats();
    EXPECT_EQ(stats.blocks_free, limits_.num_blocks);
    EXPECT_EQ(stats.running, 0);
    EXPECT_EQ(stats.waiting, 0);
    EXPECT_EQ(ended_.size(), static_cast<size_t>(requests) - refused_);
    EXPECT_GT(ended_.size(), 10'000u);
    EXPECT_GT(stats.preemptions, 0);
    for (const FinishCause cause :
         {FinishCause::kStopToken, FinishCause::kLength, FinishCause::kCancelled,
          FinishCause::kDeadline, FinishCause::kAborted}) {
      EXPECT_GT(causes_[cause], 0) << static_cast<int>(cause);
    }
    EXPECT_GT(refused_, 0u);
  }

 private:
  int Draw(int lowest, int highest) {
    return std::uniform_int_distribution<int>(lowest, highest)(random_);
  }
  bool Chance(int percent) { return Draw(1, 100) <= percent; }

  void AddOne() {
    ScheduledRequest request;
    request.id = next_id_++;
    const int prompt = Draw(1, Chance(10) ? 120 : 20);
    for (int i = 0; i < prompt; ++i) request.prompt_ids.push_back(Draw(0, kFakeVocab - 1));
    request.max_tokens = Draw(1, Chance(10) ? 200 : 12);
    request.sampling.set_seed(static_cast<uint64_t>(request.id % 7));
    if (Chance(50)) request.stop_ids = {Draw(0, kFakeVocab - 1), Draw(0, kFakeVocab - 1)};
    if (Chance(20)) request.deadline = now_ + absl::Milliseconds(Draw(0, 200));
    const absl::Status status = scheduler_.Add(request, now_);
    if (!status.ok()) {
      ASSERT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
      ++refused_;
      return;
    }
    live_[request.id] = {request, {}};
  }

  void CancelOne() {
    if (live_.empty()) return;
    auto victim = live_.begin();
    std::advance(victim, Draw(0, static_cast<int>(live_.size()) - 1));
    const int64_t id = victim->first;
    ASSERT_TRUE(scheduler_.Finish(id));
    ASSERT_FALSE(scheduler_.Finish(id));
    End(id, FinishCause::kCancelled);
  }

  void ScheduleOne() {
    const auto plan = scheduler_.Schedule(now_);
    Take(scheduler_.TakeExpired());
    const SchedulerStats stats = scheduler_.stats();
    ASSERT_EQ(static_cast<size_t>(stats.running + stats.waiting), live_.size());
    if (!plan) {
      ASSERT_TRUE(live_.empty() || group_.in_flight() > 0) << "stuck";
      return;
    }
    group_.Send(*plan);
  }

  void CommitOne() {
    auto emissions =
        scheduler_.Commit(Chance(70) ? group_.ExecuteOldest() : group_.ExecuteNewest());
    ASSERT_TRUE(emissions.ok()) << emissions.status();
    Take(*emissions);
  }

  void LoseTheGroup() {
    ++aborts_;
    group_.Forget();
    Take(scheduler_.AbortAll());
    ASSERT_TRUE(live_.empty());
    ASSERT_EQ(scheduler_.stats().blocks_free, limits_.num_blocks);
  }

  void Take(const std::vector<Emission>& emissions) {
    for (const Emission& emission : emissions) {
      const auto found = live_.find(emission.request_id);
      ASSERT_NE(found, live_.end()) << "a word of a request that is over";
      if (emission.token) found->second.output.push_back(emission.token->token_id());
      if (emission.finished != FinishCause::kNone) End(emission.request_id, emission.finished);
    }
  }

  void End(int64_t id, FinishCause cause) {
    const Live live = live_.at(id);
    live_.erase(id);
    ASSERT_EQ(ended_.count(id), 0u) << "ended twice";
    ended_[id] = cause;
    ++causes_[cause];
    const int capacity = limits_.num_blocks * limits_.block_tokens;
    const std::vector<int32_t> whole =
        ReferenceTokens(live.request, std::min(limits_.max_model_len, capacity));
    const bool complete = cause == FinishCause::kStopToken || cause == FinishCause::kLength;
    ASSERT_TRUE(complete ? live.output.size() == whole.size() : live.output.size() <= whole.size());
    ASSERT_TRUE(std::equal(live.output.begin(), live.output.end(), whole.begin()))
        << "other tokens than alone";
  }

  struct Live {
    ScheduledRequest request;
    std::vector<int32_t> output;
  };

  std::mt19937 random_;
  const SchedulerLimits limits_;
  Scheduler scheduler_;
  FakeGroup group_;
  absl::Time now_ = absl::FromUnixSeconds(1'000);
  int64_t ticks_ = 0;
  int64_t next_id_ = 0;
  size_t refused_ = 0;
  int aborts_ = 0;
  std::map<int64_t, Live> live_;
  std::map<int64_t, FinishCause> ended_;
  std::map<FinishCause, int> causes_;
};

TEST(SchedulerRandomRunTest, MoreThanTenThousandRequests) {
  for (const int in_flight : {1, 2, 4}) {
    SCOPED_TRACE(in_flight);
    RandomRun(static_cast<uint32_t>(in_flight), {.block_tokens = 4,
                                                 .num_blocks = 48,
                                                 .max_tokens_per_step = 40,
                                                 .max_sequences_per_step = 12,
                                                 .max_model_len = 150,
                                                 .max_prefill_chunk = 24,
                                                 .max_queue = 60,
                                                 .max_steps_in_flight = in_flight,
                                                 .lookahead = false,
                                                 .vocab_size = kFakeVocab})
        .Run(15'000);
  }
}

}  // namespace
}  // namespace tessera::coordinator
