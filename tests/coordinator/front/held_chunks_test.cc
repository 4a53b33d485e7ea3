#include "coordinator/front/held_chunks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tessera::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::GenerateResponse Chunk(const std::string& text, int id, int index = 0) {
  v1::GenerateResponse chunk;
  chunk.set_text(text);
  chunk.add_token_ids(id);
  chunk.set_index(index);
  return chunk;
}

v1::GenerateResponse Last(const std::string& text, int id, int index = 0) {
  v1::GenerateResponse chunk = Chunk(text, id, index);
  chunk.mutable_usage()->set_prompt_tokens(3);
  return chunk;
}

TEST(HeldChunksTest, AddedOnesStayApartAndInOrder) {
  HeldChunks held;
  held.Add(Chunk("a", 1), 0);
  held.Add(Chunk("b", 2), 5);
  EXPECT_EQ(held.Take().chunk.text(), "a");
  const HeldChunks::Held second = held.Take();
  EXPECT_EQ(second.chunk.text(), "b");
  EXPECT_EQ(second.prompt, 5);
  EXPECT_TRUE(held.empty());
}

TEST(HeldChunksTest, MergedOnesOfAChoiceBecomeOneMessage) {
  HeldChunks held;
  held.Merge(Chunk("a", 1, 0));
  held.Merge(Chunk("x", 7, 1));
  held.Merge(Chunk("b", 2, 0));
  const v1::GenerateResponse first = held.Take().chunk;
  EXPECT_EQ(first.text(), "ab");
  EXPECT_THAT(first.token_ids(), ElementsAre(1, 2));
  EXPECT_EQ(held.Take().chunk.text(), "x");
  EXPECT_TRUE(held.empty());
}

TEST(HeldChunksTest, TheVeryLastMessageStaysLast) {
  HeldChunks held;
  held.Merge(Chunk("a", 1, 0));
  held.Merge(Chunk("x", 7, 1));
  held.Merge(Last("b", 2, 0));  // not into "a", before which "x" would come
  EXPECT_EQ(held.Take().chunk.text(), "a");
  EXPECT_EQ(held.Take().chunk.text(), "x");
  EXPECT_TRUE(held.Take().chunk.has_usage());
}

TEST(HeldChunksTest, AMessageGrowsToABoundOnly) {
  HeldChunks held;
  const std::string text(HeldChunks::kMergedBytes / 2, 't');
  for (int i = 0; i < 3; ++i) held.Merge(Chunk(text, i));
  int messages = 0;
  for (; !held.empty(); ++messages) {
    EXPECT_LE(held.Take().chunk.ByteSizeLong(), HeldChunks::kMergedBytes);
  }
  EXPECT_EQ(messages, 3);
}

TEST(HeldChunksTest, ReadingMakesRoomAgain) {
  HeldChunks held;
  const std::string text(HeldChunks::kMostBytes / 4, 't');
  for (int i = 0; i < 3; ++i) held.Add(Chunk(text, i));
  EXPECT_TRUE(held.CheckBound().ok());
  held.Add(Chunk(text, 3));  // and what the messages take besides
  EXPECT_EQ(held.CheckBound().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(held.CheckBound().message()), HasSubstr("the client does not read"));
  held.Take();
  EXPECT_TRUE(held.CheckBound().ok());
  held.Clear();
  EXPECT_TRUE(held.empty());
  for (int i = 0; i < 3; ++i) held.Add(Chunk(text, i));
  EXPECT_TRUE(held.CheckBound().ok());
}

TEST(HeldChunksTest, LogProbabilitiesWeighMoreThanTheirBytes) {
  v1::GenerateResponse chunk = Chunk("a", 1);
  const size_t without = HeldChunks::BytesOf(chunk);
  for (int i = 0; i < 20; ++i) chunk.add_logprobs()->mutable_chosen()->set_token_id(i);
  EXPECT_GT(HeldChunks::BytesOf(chunk), without + chunk.ByteSizeLong());
}

}  // namespace
}  // namespace tessera::coordinator
