// What the sampling chunks say besides the sampling parameters.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/schedule/scheduler.h"
#include "tests/coordinator/schedule/scheduler_fixture.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::FakeConstraint;
using tessera::testing::kFakeVocab;
using tessera::testing::MaskAllows;
using tessera::testing::ReferenceTokens;
using tessera::testing::Request;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Allows always the same tokens.
class FixedConstraint : public TokenConstraint {
 public:
  explicit FixedConstraint(const std::vector<int32_t>& allowed)
      : mask_((kFakeVocab + 7) / 8, '\0') {
    for (const int32_t id : allowed) {
      mask_[static_cast<size_t>(id / 8)] |= static_cast<char>(1 << (id % 8));
    }
  }
  std::unique_ptr<TokenConstraint> Clone() const override {
    return std::make_unique<FixedConstraint>(*this);
  }
  const std::string& AllowedMask() override { return mask_; }
  bool Accept(int32_t token) override { return MaskAllows(mask_, token); }

 private:
  std::string mask_;
};

class LogitsStateTest : public tessera::testing::SchedulerTest {
 protected:
  v1::LogitsState LogitsStateOf(const ScheduledRequest& request) {
    Start(Limits());
    Add(request);
    Send();
    const v1::SequenceChunk chunk = plan_->chunks(0);
    Answer();
    return chunk.logits_state();
  }
};

TEST_F(LogitsStateTest, NothingToSay) {
  Start(Limits());
  Add(Request(1, 5));
  Send();
  EXPECT_FALSE(plan_->chunks(0).has_logits_state());
}

TEST_F(LogitsStateTest, PromptIdsOnlyWithARepetitionPenaltyAndDistinct) {
  ScheduledRequest request = Request(1, 5);
  request.prompt_ids = {7, 3, 7, 3, 9};
  request.sampling.set_presence_penalty(1);
  EXPECT_THAT(LogitsStateOf(request).prompt_ids(), IsEmpty());
  request.sampling.set_repetition_penalty(1);
  EXPECT_THAT(LogitsStateOf(request).prompt_ids(), IsEmpty());
  request.sampling.set_repetition_penalty(1.1f);
  EXPECT_THAT(LogitsStateOf(request).prompt_ids(), ElementsAre(3, 7, 9));
}

TEST_F(LogitsStateTest, OutputIdsWithAnyPenalty) {
  for (const int kind : {0, 1, 2}) {
    ScheduledRequest request = Request(1, 5);
    if (kind == 0) request.sampling.set_repetition_penalty(2);
    if (kind == 1) request.sampling.set_presence_penalty(-1);
    if (kind == 2) request.sampling.set_frequency_penalty(1);
    Start(Limits());
    outputs_.clear();
    Add(request);
    Tick();
    Tick();
    Send();
    EXPECT_THAT(plan_->chunks(0).logits_state().output_ids(),
                ElementsAre(output(1).at(0), output(1).at(1)));
    Answer();
  }
}

TEST_F(LogitsStateTest, StopIdsAreBannedForTheFirstTokens) {
  ScheduledRequest request = Request(1, 5, 3);
  request.stop_ids = {-5, 4, kFakeVocab, 6};
  request.min_tokens = 2;
  EXPECT_THAT(LogitsStateOf(request).banned_ids(), ElementsAre(4, 6)) << "those the model has";
  Send();
  EXPECT_THAT(plan_->chunks(0).logits_state().banned_ids(), ElementsAre(4, 6));
  Answer();
  Send();
  EXPECT_FALSE(plan_->chunks(0).has_logits_state());
}

TEST_F(LogitsStateTest, ABadWordIsBannedWhereItWouldBeCompleted) {
  ScheduledRequest request = Request(1, 5);
  request.prompt_ids = {1, 2, 3};
  request.bad_words = {{50}, {3, 51}, {2, 3, 52}, {1, 3, 53}, {1, 2, 3, 54}, {9, 1, 2, 3, 55}, {}};
  EXPECT_THAT(LogitsStateOf(request).banned_ids(), ElementsAre(50, 51, 52, 54));
}

TEST_F(LogitsStateTest, TheMaskFollowsTheTokens) {
  ScheduledRequest request = Request(1, 5, 3);
  request.constraint = std::make_shared<FakeConstraint>(3);
  const auto expected = request.constraint->Clone();
  Start(Limits());
  Add(request);
  for (int i = 0; i < 3; ++i) {
    Send();
    EXPECT_EQ(plan_->chunks(0).logits_state().allowed_mask(), expected->AllowedMask());
    Answer();
    EXPECT_TRUE(expected->Accept(output(1).back()));
  }
}

TEST_F(LogitsStateTest, SomethingIsAlwaysLeftToDraw) {
  ScheduledRequest request = Request(1, 5);
  request.constraint = std::make_shared<FixedConstraint>(std::vector<int32_t>{4, 8});
  request.stop_ids = {4, 8};
  request.min_tokens = 5;
  EXPECT_THAT(LogitsStateOf(request).banned_ids(), IsEmpty()) << "the output can only end here";
  request.bad_words = {{4}, {4}};
  EXPECT_THAT(LogitsStateOf(request).banned_ids(), ElementsAre(4, 4));
  request.bad_words = {{8}, {4}};
  EXPECT_THAT(LogitsStateOf(request).banned_ids(), IsEmpty());
  request.stop_ids = {4};
  request.bad_words = {{5}, {6}, {7}};
  EXPECT_THAT(LogitsStateOf(request).banned_ids(), ElementsAre(5, 6, 7, 4)) << "8 is left";
}

TEST_F(LogitsStateTest, ATokenThatTheMaskDidNotAllowIsALie) {
  ScheduledRequest request = Request(1, 5);
  request.constraint = std::make_shared<FixedConstraint>(std::vector<int32_t>{4, 8});
  Start(Limits());
  Add(request);
  Send();
  const v1::StepResult honest = group_->ExecuteOldest();
  v1::StepResult lie = honest;
  lie.mutable_tokens(0)->set_token_id(5);
  const absl::Status status = scheduler_->Commit(lie).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("token 5; expected one that the mask"));
  EXPECT_TRUE(scheduler_->Commit(honest).ok()) << "nothing had changed";
}

}  // namespace
}  // namespace tessera::coordinator
