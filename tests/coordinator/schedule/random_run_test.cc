// A hundred thousand random requests: several choices, shared prefixes, tenants, priorities,
// constraints, penalties and prompt logprobs, with cancels, deadlines, preemptions and lost groups.
// The fake group checks every plan; here: everything ends exactly once, with the tokens of a run
// alone, and no block leaks.
#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/scheduler.h"
#include "tests/coordinator/schedule/kv_memory_group.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::FakeConstraint;
using tessera::testing::kFakeVocab;
using tessera::testing::KvMemoryGroup;
using tessera::testing::ReferencePromptLogprobs;
using tessera::testing::ReferenceTokens;

// Sanitizers make it a good ten times slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kRequestsPerRun = 1'500;
#else
constexpr int kRequestsPerRun = 12'500;
#endif

struct Counts {
  std::map<FinishCause, int> causes;  // of whole requests
  int64_t preemptions = 0;
  int64_t placeholders = 0;
  int64_t copies = 0;
  int64_t prefix_hits = 0;
  int64_t prompt_logprobs = 0;
  int64_t replays = 0;
  int64_t replayed_tokens = 0;
  int refused = 0;
};

class RandomRun {
 public:
  RandomRun(uint32_t seed, int tenants, const SchedulerLimits& limits, Counts* counts)
      : random_(seed),
        tenants_(tenants),
        limits_(limits),
        scheduler_(limits),
        group_(limits),
        counts_(*counts) {
    for (int i = 0; i < 4; ++i) prefixes_.push_back(Tokens(Draw(3, 60)));
  }

  void Run(int64_t requests) {
    while (next_id_ <= requests || !scheduler_.idle() || group_.in_flight() > 0) {
      now_ += absl::Milliseconds(1);
      const bool rush = ++ticks_ / 500 % 4 == 0;
      if (next_id_ <= requests && Chance(rush ? 60 : 12)) AddOne();
      if (Chance(4)) CancelOne();
      if (Chance(4)) FinishOneChoice();
      if (Chance(90)) ScheduleOne();
      if (group_.in_flight() > 0 && Chance(70)) CommitOne();
      if (ticks_ % 1'000 == 0) LoseTheGroup();
      if (::testing::Test::HasFailure()) return;
    }
    const SchedulerStats stats = scheduler_.stats();
    EXPECT_EQ(stats.blocks_free, limits_.num_blocks);
    EXPECT_EQ(stats.running, 0);
    EXPECT_EQ(stats.waiting, 0);
    EXPECT_EQ(ended_ + refused_, requests);
    counts_.preemptions += stats.preemptions;
    counts_.prefix_hits += stats.prefix_hits;
    counts_.refused += static_cast<int>(refused_);
  }

 private:
  struct Choice {
    std::vector<int32_t> output;
    FinishCause finished = FinishCause::kNone;
  };
  struct Live {
    ScheduledRequest request;
    std::vector<Choice> choices;
    std::vector<float> prompt_logprobs;
  };

  int Draw(int lowest, int highest) {
    return std::uniform_int_distribution<int>(lowest, highest)(random_);
  }
  bool Chance(int percent) { return Draw(1, 100) <= percent; }
  std::vector<int32_t> Tokens(int count) {
    std::vector<int32_t> tokens;
    for (int i = 0; i < count; ++i) tokens.push_back(Draw(0, kFakeVocab - 1));
    return tokens;
  }

  ScheduledRequest RandomRequest() {
    ScheduledRequest request;
    request.id = next_id_++;
    if (Chance(50)) request.prompt_ids = prefixes_[static_cast<size_t>(Draw(0, 3))];
    const std::vector<int32_t> rest = Tokens(Draw(1, Chance(10) ? 80 : 12));
    request.prompt_ids.insert(request.prompt_ids.end(), rest.begin(), rest.end());
    request.max_tokens = Draw(1, Chance(10) ? 120 : 12);
    request.sampling.set_seed(static_cast<uint64_t>(request.id % 7));
    if (Chance(15)) {
      for (int i = Draw(1, 4); i > 0; --i) request.seeds.push_back(static_cast<uint64_t>(i));
    }
    if (Chance(50)) request.stop_ids = Tokens(2);
    if (Chance(20)) request.min_tokens = Draw(1, 6);
    if (Chance(10)) request.bad_words.push_back(Tokens(1));
    if (Chance(3)) request.bad_words.push_back(Tokens(2));
    if (Chance(3)) request.constraint = std::make_shared<FakeConstraint>(request.id);
    if (Chance(10)) request.sampling.set_repetition_penalty(1.5f);
    if (Chance(10)) request.sampling.set_presence_penalty(0.5f);
    if (Chance(10)) {
      request.prompt_logprobs_from = Draw(1, static_cast<int>(request.prompt_ids.size()));
      if (request.seeds.empty() && Chance(50)) request.max_tokens = 0;
    }
    request.tenant = absl::StrCat("tenant ", Chance(60) ? 0 : Draw(0, tenants_ - 1));
    request.priority = Draw(0, 2);
    if (Chance(20)) request.deadline = now_ + absl::Milliseconds(Draw(0, 300));
    return request;
  }

  void AddOne() {
    const ScheduledRequest request = RandomRequest();
    const absl::Status status = scheduler_.Add(request, now_);
    if (!status.ok()) {
      ASSERT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
      ++refused_;
      return;
    }
    Live& live = live_[request.id];
    live.request = request;
    live.choices.resize(std::max<size_t>(1, request.seeds.size()));
  }

  int64_t AnyLive() {
    auto any = live_.lower_bound(next_id_ - Draw(1, 60));
    return any == live_.end() ? live_.begin()->first : any->first;
  }

  void CancelOne() {
    if (live_.empty()) return;
    const int64_t id = AnyLive();
    ASSERT_TRUE(scheduler_.Finish(id));
    ASSERT_FALSE(scheduler_.Finish(id));
    End(id, FinishCause::kCancelled);
  }

  void FinishOneChoice() {
    if (live_.empty()) return;
    const int64_t id = AnyLive();
    std::vector<Choice>& choices = live_.at(id).choices;
    const int choice = Draw(0, static_cast<int>(choices.size()) - 1);
    Choice& chosen = choices[static_cast<size_t>(choice)];
    const bool goes_on = chosen.finished == FinishCause::kNone;
    ASSERT_EQ(scheduler_.FinishChoice(id, choice), goes_on);
    ASSERT_FALSE(scheduler_.FinishChoice(id, choice));
    if (!goes_on) return;
    chosen.finished = FinishCause::kCancelled;
    EndIfAllHave(id);
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
    for (const auto& chunk : plan->chunks()) {
      counts_.placeholders += chunk.last_token_from_step() != 0;
    }
    counts_.copies += plan->copies_size();
    group_.Send(*plan);
  }

  void CommitOne() {
    const bool any_order = !limits_.lookahead && Chance(30);
    v1::StepResult result = any_order ? group_.ExecuteNewest() : group_.ExecuteOldest();
    result.set_compute_micros(Draw(500, 1'500));
    auto emissions = scheduler_.Commit(result);
    ASSERT_TRUE(emissions.ok()) << emissions.status();
    Take(*emissions);
  }

  void LoseTheGroup() {
    group_.Forget();
    std::vector<ScheduledRequest> unfinished = scheduler_.TakeUnfinished();
    ASSERT_EQ(unfinished.size(), live_.size());
    ASSERT_TRUE(scheduler_.idle());
    ASSERT_EQ(scheduler_.stats().blocks_free, limits_.num_blocks);
    ASSERT_EQ(scheduler_.stats().blocks_cached, 0);
    for (ScheduledRequest& request : unfinished) {
      const Live& live = live_.at(request.id);
      ASSERT_EQ(request.prompt_ids, live.request.prompt_ids);
      for (size_t i = 0; i < live.choices.size(); ++i) {
        ASSERT_EQ(request.so_far[i].output_ids, live.choices[i].output);
        ASSERT_EQ(request.so_far[i].over, live.choices[i].finished != FinishCause::kNone);
        counts_.replayed_tokens += static_cast<int64_t>(live.choices[i].output.size());
      }
      ++counts_.replays;
      const absl::Status added = scheduler_.Add(std::move(request), now_);
      ASSERT_TRUE(added.ok()) << added;
    }
  }

  void Take(const std::vector<Emission>& emissions) {
    for (const Emission& emission : emissions) {
      const auto found = live_.find(emission.request_id);
      ASSERT_NE(found, live_.end()) << "a word of a request that is over";
      if (emission.finished == FinishCause::kDeadline) {
        End(emission.request_id, emission.finished);
        continue;
      }
      Live& live = found->second;
      Choice& choice = live.choices.at(static_cast<size_t>(emission.choice));
      ASSERT_EQ(choice.finished, FinishCause::kNone) << "a word of a choice that is over";
      for (const auto& logprob : emission.prompt_logprobs)
        live.prompt_logprobs.push_back(logprob.logprob());
      if (emission.token) choice.output.push_back(emission.token->token_id());
      ASSERT_LT(emission.cached_tokens, static_cast<int>(live.request.prompt_ids.size()));
      choice.finished = emission.finished;
      if (emission.finished != FinishCause::kNone) EndIfAllHave(emission.request_id);
    }
  }

  void EndIfAllHave(int64_t id) {
    const std::vector<Choice>& choices = live_.at(id).choices;
    for (const Choice& choice : choices) {
      if (choice.finished == FinishCause::kNone) return;
    }
    End(id, choices.back().finished);
  }

  void End(int64_t id, FinishCause cause) {
    const Live live = std::move(live_.at(id));
    live_.erase(id);
    ++ended_;
    ++counts_.causes[cause];
    counts_.prompt_logprobs += static_cast<int64_t>(live.prompt_logprobs.size());
    const int capacity = limits_.num_blocks * limits_.block_tokens;
    const int max_len = std::min(limits_.max_model_len, capacity);
    bool complete = true;
    for (size_t i = 0; i < live.choices.size(); ++i) {
      const Choice& choice = live.choices[i];
      const std::vector<int32_t> whole =
          ReferenceTokens(live.request, max_len, static_cast<int>(i));
      const bool ended =
          choice.finished == FinishCause::kStopToken || choice.finished == FinishCause::kLength;
      complete &= ended;
      ASSERT_TRUE(ended ? choice.output.size() == whole.size()
                        : choice.output.size() <= whole.size());
      ASSERT_TRUE(std::equal(choice.output.begin(), choice.output.end(), whole.begin()))
          << "request " << id << ", choice " << i << ": other tokens than alone";
    }
    const std::vector<float> prompt_logprobs = ReferencePromptLogprobs(live.request);
    ASSERT_TRUE(complete ? live.prompt_logprobs.size() == prompt_logprobs.size()
                         : live.prompt_logprobs.size() <= prompt_logprobs.size());
    ASSERT_TRUE(std::equal(live.prompt_logprobs.begin(), live.prompt_logprobs.end(),
                           prompt_logprobs.begin()));
  }

  std::mt19937 random_;
  const int tenants_;
  const SchedulerLimits limits_;
  Scheduler scheduler_;
  KvMemoryGroup group_;
  Counts& counts_;
  std::vector<std::vector<int32_t>> prefixes_;
  absl::Time now_ = absl::FromUnixSeconds(1'000);
  int64_t ticks_ = 0;
  int64_t next_id_ = 1;
  int64_t refused_ = 0;
  int64_t ended_ = 0;
  std::map<int64_t, Live> live_;
};

struct Setting {
  int in_flight;
  bool lookahead;
  SchedulingPolicy policy;
  bool prefix_caching;
  int tenants;  // with several, nobody runs ahead
};

TEST(SchedulerRandomRunTest, AHundredThousandRequests) {
  constexpr auto kFcfs = SchedulingPolicy::kFcfs;
  constexpr auto kPriority = SchedulingPolicy::kPriority;
  const Setting settings[] = {{1, true, kFcfs, true, 1},      {1, true, kPriority, true, 1},
                              {1, true, kPriority, false, 4}, {1, false, kFcfs, true, 4},
                              {2, true, kPriority, true, 1},  {2, false, kPriority, true, 4},
                              {4, true, kFcfs, true, 1},      {4, false, kFcfs, false, 4}};
  Counts counts;
  uint32_t seed = 0;
  for (const Setting& setting : settings) {
    SCOPED_TRACE(seed);
    RandomRun(++seed, setting.tenants,
              {.block_tokens = 4,
               .num_blocks = 64,
               .max_tokens_per_step = 40,
               .max_sequences_per_step = 12,
               .max_model_len = 150,
               .max_prefill_chunk = 24,
               .max_queue = 60,
               .max_steps_in_flight = setting.in_flight,
               .lookahead = setting.lookahead,
               .prefix_caching = setting.prefix_caching,
               .policy = setting.policy,
               .tenant_weights = {{"tenant 1", 3.0}},
               .vocab_size = kFakeVocab},
              &counts)
        .Run(kRequestsPerRun);
    if (HasFailure()) return;
  }
  for (const FinishCause cause :
       {FinishCause::kStopToken, FinishCause::kLength, FinishCause::kCancelled,
        FinishCause::kDeadline}) {
    EXPECT_GT(counts.causes[cause], 10) << static_cast<int>(cause);
  }
  EXPECT_GT(counts.replays, 100);
  EXPECT_GT(counts.replayed_tokens, 100);
  EXPECT_GT(counts.preemptions, 100);
  EXPECT_GT(counts.placeholders, 100);
  EXPECT_GT(counts.copies, 100);
  EXPECT_GT(counts.prefix_hits, 100);
  EXPECT_GT(counts.prompt_logprobs, 100);
  EXPECT_GT(counts.refused, 0);
}

}  // namespace
}  // namespace tessera::coordinator
