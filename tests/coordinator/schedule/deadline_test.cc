// Requests that cannot be served in time are not served late: they are dropped while they wait.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/schedule/scheduler.h"
#include "tests/coordinator/schedule/scheduler_fixture.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::Ids;
using tessera::testing::Request;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DeadlineTest : public tessera::testing::SchedulerTest {
 protected:
  // A group whose steps take 10 ms and 1 ms per token, as the scheduler has learned.
  void StartLearned() {
    SchedulerLimits limits = Limits();
    limits.max_sequences_per_step = 1;
    limits.max_tokens_per_step = 100;
    limits.prefix_caching = false;
    Start(limits);
    for (int i = 0; i < 30; ++i) {
      Add(Request(1'000 + i, 3 + 2 * i, 3));
      while (!scheduler_->idle()) TickInTime();
    }
  }

  std::vector<std::string> TickInTime() {
    auto chunks = Send(now_);
    if (chunks.empty()) return chunks;
    int tokens = 0;
    for (const auto& chunk : plan_->chunks()) tokens += chunk.token_ids_size();
    Answer(10'000 + 1'000 * tokens);
    now_ += absl::Milliseconds(10 + tokens);
    return chunks;
  }

  ScheduledRequest Until(int64_t id, int prompt_tokens, absl::Duration left) {
    ScheduledRequest request = Request(id, prompt_tokens, 1);
    request.deadline = now_ + left;
    return request;
  }

  absl::Time now_ = tessera::testing::kNow;
};

TEST_F(DeadlineTest, APromptThatTakesLongerThanIsLeftIsNotBegun) {
  StartLearned();
  // Two steps of 100 tokens and one of 50: 280 ms, and a token more.
  Add(Until(1, 250, absl::Milliseconds(250)));
  EXPECT_THAT(Send(now_), IsEmpty());
  EXPECT_THAT(Ids(scheduler_->TakeExpired()), ElementsAre(1));
  EXPECT_TRUE(scheduler_->idle());
  Add(Until(2, 250, absl::Milliseconds(350)));
  EXPECT_FALSE(TickInTime().empty());
  EXPECT_THAT(scheduler_->TakeExpired(), IsEmpty());
}

TEST_F(DeadlineTest, OneThatWaitsIsDroppedWhenItBecomesTooLateForIt) {
  StartLearned();
  Add(Request(1, 3, 50));
  TickInTime();  // takes the only slot
  Add(Until(2, 250, absl::Milliseconds(500)));
  const absl::Time added = now_;
  while (scheduler_->stats().waiting > 0) ASSERT_FALSE(TickInTime().empty());
  EXPECT_THAT(Ids(scheduler_->TakeExpired()), ElementsAre(2));
  EXPECT_GT(now_, added + absl::Milliseconds(100));
  EXPECT_LT(now_, added + absl::Milliseconds(300)) << "not only at its deadline";
}

TEST_F(DeadlineTest, OneThatHasBegunRunsUntilItsDeadline) {
  StartLearned();
  ScheduledRequest request = Until(1, 10, absl::Milliseconds(200));
  request.max_tokens = 1'000;
  Add(request);
  while (!scheduler_->idle()) TickInTime();
  EXPECT_THAT(Ids(scheduler_->TakeExpired()), ElementsAre(1));
  EXPECT_GE(now_, request.deadline);
  EXPECT_GT(output(1).size(), 10u);
}

TEST_F(DeadlineTest, OneThatComesTooFarBackInTheQueueIsRefusedAtOnce) {
  StartLearned();
  const auto fill = [this](int64_t first_id) {
    for (int64_t id = first_id; id < first_id + 100; ++id) {
      ASSERT_EQ(scheduler_->Add(Request(id, 3), now_), absl::OkStatus());
    }
  };
  fill(2'000);  // learns how fast they begin: one every 46 ms
  while (!scheduler_->idle()) TickInTime();
  fill(3'000);
  const absl::Status refused = scheduler_->Add(Until(1, 3, absl::Seconds(3)), now_);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("100 requests wait"));
  EXPECT_EQ(scheduler_->Add(Until(2, 3, absl::Seconds(20)), now_), absl::OkStatus());
  ScheduledRequest other = Until(3, 3, absl::Seconds(3));
  other.tenant = "other";  // nobody of its own is ahead of it
  EXPECT_EQ(scheduler_->Add(other, now_), absl::OkStatus());
  while (!scheduler_->idle()) TickInTime();
  EXPECT_THAT(scheduler_->TakeExpired(), IsEmpty());
}

// On its way here, say: then no queue was too long for it.
TEST_F(DeadlineTest, OneWhoseDeadlineHasPassedIsLateAndNotRefused) {
  StartLearned();
  Add(Until(1, 10, -absl::Milliseconds(1)));
  EXPECT_THAT(Send(now_), IsEmpty());
  EXPECT_THAT(Ids(scheduler_->TakeExpired()), ElementsAre(1));
  EXPECT_TRUE(scheduler_->idle());
}

TEST_F(DeadlineTest, WithoutKnowledgeOnlyTheDeadlineCounts) {
  Start(Limits());
  Add(Until(1, 600, absl::Nanoseconds(1)));
  EXPECT_FALSE(Send(now_).empty());
}

}  // namespace
}  // namespace tessera::coordinator
