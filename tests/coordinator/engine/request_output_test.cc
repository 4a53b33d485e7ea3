#include "coordinator/engine/request_output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "coordinator/engine/admit.h"
#include "coordinator/engine/bad_words.h"
#include "tests/coordinator/engine/fake_transport_group.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::kEos;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

class RequestOutputTest : public ::testing::Test {
 protected:
  RequestOutputTest() : tokenizer_(*Tokenizer::Create(tessera::testing::ByteTokenizer())) {}

  RequestOutput Make(RequestOutputOptions options) {
    options.tokenizer = tokenizer_.get();
    options.prompt_tokens = 3;
    options.request_id = "id";
    return RequestOutput(std::move(options));
  }
  Emission Token(int id, int choice = 0, FinishCause finished = FinishCause::kNone) {
    Emission emission;
    emission.choice = choice;
    emission.finished = finished;
    tokens_.emplace_back().set_token_id(id);
    emission.token = &tokens_.back();
    return emission;
  }
  static v1::PromptLogprob Target(int id) {
    v1::PromptLogprob target;
    target.set_token_id(id);
    target.set_logprob(-1);
    for (int i = 0; i < 2; ++i) {
      target.add_top_ids(i);
      target.add_top_logprobs(static_cast<float>(-i));
    }
    return target;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::deque<v1::SampledToken> tokens_;  // of the emissions
};

TEST_F(RequestOutputTest, ChoicesEndOneByOneAndTheLastOneTellsTheUsage) {
  RequestOutput output = Make({.stop = {"!"}, .choices = 3});
  OutputChunk chunk = output.Take(Token('a', 1));
  EXPECT_EQ(chunk.message.index(), 1);
  EXPECT_EQ(chunk.message.request_id(), "id");
  chunk = output.Take(Token('!', 1));
  EXPECT_TRUE(chunk.choice_stopped);
  EXPECT_FALSE(chunk.is_last);
  EXPECT_EQ(chunk.message.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_FALSE(chunk.message.has_usage());
  EXPECT_EQ(chunk.message.request_id(), "");
  EXPECT_TRUE(output.Take(Token('b', 1)).is_empty) << "drawn before the scheduler heard of the end";
  chunk = output.Take(Token('c', 0, FinishCause::kLength));
  EXPECT_FALSE(chunk.choice_stopped);
  EXPECT_EQ(chunk.message.finish_reason(), v1::FINISH_REASON_LENGTH);
  Emission last = Token(kEos, 2, FinishCause::kStopToken);
  last.cached_tokens = 2;
  chunk = output.Take(last);
  EXPECT_TRUE(chunk.is_last);
  EXPECT_EQ(chunk.message.text(), "");
  EXPECT_EQ(chunk.message.usage().prompt_tokens(), 3);
  EXPECT_EQ(chunk.message.usage().completion_tokens(), 4);
  EXPECT_EQ(chunk.message.usage().cached_tokens(), 2);
}

TEST_F(RequestOutputTest, AStopStringBeforeMinTokensIsText) {
  RequestOutput output = Make({.stop = {"ab"}, .min_tokens = 3});
  std::string text;
  OutputChunk chunk;
  for (const char c : std::string("abxab")) {
    ASSERT_FALSE(chunk.choice_stopped);
    chunk = output.Take(Token(c));
    text += chunk.message.text();
  }
  EXPECT_TRUE(chunk.choice_stopped);
  EXPECT_EQ(text, "abx");
}

TEST_F(RequestOutputTest, PromptLogprobsComeWithTheFirstMessage) {
  RequestOutput output = Make({.num_logprobs = 0, .prompt_logprobs = 1});
  Emission part;
  part.prompt_logprobs = {Target('p')};
  EXPECT_TRUE(output.Take(part).is_empty);
  Emission first = Token('a');
  first.prompt_logprobs = {Target('q')};
  const OutputChunk chunk = output.Take(first);
  ASSERT_EQ(chunk.message.prompt_logprobs_size(), 3);
  EXPECT_FALSE(chunk.message.prompt_logprobs(0).has_chosen());
  EXPECT_EQ(chunk.message.prompt_logprobs(1).chosen().token(), "p");
  EXPECT_EQ(chunk.message.prompt_logprobs(2).chosen().token(), "q");
  EXPECT_EQ(chunk.message.prompt_logprobs(2).top_size(), 1);
  EXPECT_EQ(chunk.message.logprobs(0).top_size(), 0);
  EXPECT_EQ(output.Take(Token('b')).message.prompt_logprobs_size(), 0);
}

TEST_F(RequestOutputTest, AScoreIsOneMessageWithoutTokens) {
  RequestOutput output = Make({.prompt_logprobs = 1, .is_score = true});
  Emission end;
  end.prompt_logprobs = {Target('p'), Target('q')};
  end.finished = FinishCause::kLength;
  const OutputChunk chunk = output.Take(end);
  EXPECT_TRUE(chunk.is_last);
  EXPECT_EQ(chunk.message.prompt_logprobs_size(), 2);
  EXPECT_EQ(chunk.message.token_ids_size(), 0);
  EXPECT_EQ(chunk.message.usage().prompt_tokens(), 3);
}

TEST_F(RequestOutputTest, BadWordsStandAloneAndBehindASpace) {
  google::protobuf::RepeatedPtrField<std::string> words;
  *words.Add() = "no";
  *words.Add() = " no";
  *words.Add() = " ";
  const auto ids = BadWordIds(words, *tokenizer_);
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_THAT(*ids,
              UnorderedElementsAre(ElementsAre('n', 'o'), ElementsAre(' ', 'n', 'o'), ElementsAre(' ')));
}

TEST_F(RequestOutputTest, SeedsOfChoicesDifferAndBeginWithTheRequestsOwn) {
  const auto seeds = ChoiceSeeds(7, 64);
  EXPECT_EQ(seeds[0], 7u);
  EXPECT_EQ(std::set<uint64_t>(seeds.begin(), seeds.end()).size(), 64u);
  EXPECT_EQ(ChoiceSeeds(7, 3)[2], seeds[2]) << "whatever n is";
}

}  // namespace
}  // namespace tessera::coordinator
