#include "absl/strings/str_cat.h"
#include "coordinator/text/tokenizer/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera::coordinator {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> Split(const std::vector<std::string>& patterns, const std::string& text) {
  const auto pre_tokenizer = PreTokenizer::Create(patterns);
  EXPECT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
  const auto pieces = pre_tokenizer->Split(text);
  EXPECT_TRUE(pieces.ok()) << pieces.status();
  return {pieces->begin(), pieces->end()};
}

TEST(PreTokenizer, MatchesAndGapsArePieces) {
  EXPECT_THAT(Split({}, "a b"), ElementsAre("a b"));
  EXPECT_THAT(Split({"b+"}, "abbcb"), ElementsAre("a", "bb", "c", "b"));
  EXPECT_THAT(Split({"b"}, ""), IsEmpty());
  EXPECT_THAT(Split({"x"}, "abc"), ElementsAre("abc"));
}

TEST(PreTokenizer, LaterPatternsCutFurtherAndDoNotSeeBeyond) {
  EXPECT_THAT(Split({"\\p{N}", "\\s+(?!\\S)|\\s+|\\S+"}, "ab  12"),
              ElementsAre("ab", "  ", "1", "2"));
  EXPECT_THAT(Split({"\\s+(?!\\S)|\\s+|\\S+"}, "ab  12"), ElementsAre("ab", " ", " ", "12"));
}

TEST(PreTokenizer, EmptyMatchesCutNothing) {
  EXPECT_THAT(Split({"b*"}, "abbc"), ElementsAre("a", "bb", "c"));
  EXPECT_THAT(Split({"(?=b)"}, "abbc"), ElementsAre("abbc"));
}

TEST(PreTokenizer, WhiteSpaceIsUnicodes) {
  EXPECT_THAT(Split({"\\s"}, "a\u3000b\u0085c\u180Ed"),
              ElementsAre("a", "\u3000", "b", "\u0085", "c\u180Ed"));
  EXPECT_THAT(Split({"[^\\s\\p{L}]+"}, "a\u180E b"), ElementsAre("a", "\u180E", " b"));
  EXPECT_THAT(Split({"\\S+"}, "a\u180Eb\u2003c"), ElementsAre("a\u180Eb", "\u2003", "c"));
}

TEST(PreTokenizer, TheWhiteSpaceRewriteLeavesTheRestAlone) {
  EXPECT_EQ(WithUnicodeWhitespace("\\\\s[]\\]a]\\p{L}"), "\\\\s[]\\]a]\\p{L}");
  EXPECT_EQ(WithUnicodeWhitespace("\\s[^\\s]"), "[\\t-\\r\\x{85}\\p{Z}][^\\t-\\r\\x{85}\\p{Z}]");
  EXPECT_EQ(WithUnicodeWhitespace("a\\"), "a\\");
}

TEST(PreTokenizer, BadPatternsAreRefusedByName) {
  const auto status_of = [](const std::vector<std::string>& patterns) {
    return PreTokenizer::Create(patterns).status();
  };
  EXPECT_THAT(std::string(status_of({"a", "(b"}).message()),
              HasSubstr("tokenizer.pre_tokenizer_patterns[1] does not compile"));
  EXPECT_EQ(status_of({""}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status_of({"\xFF"}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status_of({"\\C"}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status_of({std::string(100'000, 'a')}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status_of({std::string(10'000, '(') + std::string(10'000, ')')}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status_of(std::vector<std::string>(1000, "a")).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(PreTokenizer, AnExplodingPatternEndsAtTheLimit) {
  const auto pre_tokenizer = PreTokenizer::Create({"(?:a+)+b|(a|aa)+$x"});
  ASSERT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
  const std::string text = absl::StrCat(std::string(200, 'a'), "c");
  const auto pieces = pre_tokenizer->Split(text);
  EXPECT_EQ(pieces.status().code(), absl::StatusCode::kResourceExhausted) << pieces.status();
}

TEST(PreTokenizer, DeepBacktrackingDoesNotNeedTheStack) {
  const auto pre_tokenizer = PreTokenizer::Create({"(?:(a)|b)+c"});
  ASSERT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
  const std::string text = std::string(200'000, 'a') + "c";
  const auto pieces = pre_tokenizer->Split(text);
  ASSERT_TRUE(pieces.ok()) << pieces.status();
  EXPECT_THAT(*pieces, ElementsAre(text));
}

}  // namespace
}  // namespace tessera::coordinator
