#include "coordinator/text/tokenizer/text_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/text/golden.h"

namespace tessera::coordinator {
namespace {

// Token i is pieces[i]; what a model might say, cut anywhere.
class Pieces : public Tokenizer {
 public:
  explicit Pieces(std::vector<std::string> pieces, bool strips = false)
      : pieces_(std::move(pieces)), strips_(strips) {}

  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view,
                                              const EncodeOptions&) const override {
    return absl::UnimplementedError("not needed here");
  }
  const std::string& TokenBytes(int32_t id) const override { return pieces_.at(id); }
  bool IsControl(int32_t id) const override { return pieces_.at(id).substr(0, 2) == "<|"; }
  bool IsStop(int32_t) const override { return false; }
  int vocab_size() const override { return static_cast<int>(pieces_.size()); }
  size_t longest_token_bytes() const override { return 100; }
  bool strips_leading_space() const override { return strips_; }

 private:
  std::vector<std::string> pieces_;
  bool strips_;
};

struct Outcome {
  std::vector<std::string> pushed;
  std::string text;  // everything, with Flush
  bool stopped;
};

Outcome Stream(const Pieces& pieces, const std::vector<std::string>& stop,
               bool skip_special = true) {
  TextStream stream(&pieces, stop, skip_special);
  Outcome outcome{};
  for (int id = 0; id < pieces.vocab_size(); ++id) {
    outcome.pushed.push_back(stream.Push(id));
    outcome.text += outcome.pushed.back();
  }
  outcome.text += stream.Flush();
  outcome.stopped = stream.stopped();
  return outcome;
}

using testing::ElementsAre;

TEST(TextStream, OnlyWholeCharacters) {
  const Outcome outcome = Stream(Pieces({"a\xE2", "\x82",
                                         "\xAC"
                                         "b",
                                         "\xF0\x9F", "\x98\x80"}),
                                 {});
  EXPECT_THAT(outcome.pushed, ElementsAre("a", "",
                                          "\u20AC"
                                          "b",
                                          "", "\U0001F600"));
}

TEST(TextStream, AnUnfinishedCharacterIsReplacedAtTheEndOnly) {
  const Outcome outcome = Stream(Pieces({"a\xE2\x82", "b\xF0\x9F"}), {});
  EXPECT_THAT(outcome.pushed, ElementsAre("a",
                                          "\uFFFD"
                                          "b"));
  EXPECT_EQ(outcome.text,
            "a\uFFFD"
            "b\uFFFD");
}

TEST(TextStream, StopStringAcrossTokens) {
  const Outcome outcome = Stream(Pieces({"one", "\n", "\n", "two"}), {"\n\n"});
  EXPECT_THAT(outcome.pushed, ElementsAre("one", "", "", ""));
  EXPECT_EQ(outcome.text, "one");
  EXPECT_TRUE(outcome.stopped);
}

// "The capital of France is" + " Paris" came out as "isParis".
TEST(TextStream, AContinuedPromptKeepsTheSpaceBeforeItsFirstWord) {
  const Pieces pieces({" Paris", " is"}, /*strips=*/true);
  TextStream answer(&pieces, {}, true, TextBefore::kNothing);
  EXPECT_EQ(answer.Push(0), "Paris");
  EXPECT_EQ(answer.Push(1), " is");
  TextStream continuation(&pieces, {}, true, TextBefore::kPrompt);
  EXPECT_EQ(continuation.Push(0), " Paris");
}

TEST(TextStream, HeldBackTextReturnsWhenItWasNoStopString) {
  const Outcome outcome = Stream(Pieces({"one\n", "two", "STO", "Q", " ST"}), {"\n\n", "STOP"});
  EXPECT_THAT(outcome.pushed, ElementsAre("one", "\ntwo", "", "STOQ", " "));
  EXPECT_EQ(outcome.text, "one\ntwoSTOQ ST");
  EXPECT_FALSE(outcome.stopped);
}

TEST(TextStream, StopStringInsideAToken) {
  const Outcome outcome = Stream(Pieces({"say END now", " more"}), {"END"});
  EXPECT_THAT(outcome.pushed, ElementsAre("say ", ""));
  EXPECT_TRUE(outcome.stopped);
}

TEST(TextStream, TheStopStringCompleteFirstCountsAndThenTheLongest) {
  EXPECT_EQ(Stream(Pieces({"xabcd"}), {"bcd", "ab"}).text, "x");
  EXPECT_EQ(Stream(Pieces({"xabcd"}), {"abcde", "bc"}).text, "xa");
  EXPECT_EQ(Stream(Pieces({"xabc"}), {"c", "abc", "bc"}).text, "x");
}

TEST(TextStream, OverlappingBeginningsOfAStopString) {
  const Outcome outcome = Stream(Pieces({"a", "a", "a", "b", "z"}), {"aab"});
  EXPECT_THAT(outcome.pushed, ElementsAre("", "", "a", "", ""));
  EXPECT_TRUE(outcome.stopped);
}

TEST(TextStream, AStopStringOfWideCharacters) {
  const Outcome outcome =
      Stream(Pieces({"a\xE2\x82", "\xAC\xE2", "\x82\xAC!", "b"}), {"\u20AC\u20AC"});
  EXPECT_THAT(outcome.pushed, ElementsAre("a", "", "", ""));
  EXPECT_TRUE(outcome.stopped);
}

TEST(TextStream, EmptyStopStringsAreIgnored) {
  const Outcome outcome = Stream(Pieces({"ab"}), {"", ""});
  EXPECT_EQ(outcome.text, "ab");
  EXPECT_FALSE(outcome.stopped);
}

TEST(TextStream, ControlTokensAreSkippedOrShown) {
  const Pieces pieces({"<|a|>", "x", "<|b|>", "y"});
  EXPECT_EQ(Stream(pieces, {}, true).text, "xy");
  EXPECT_EQ(Stream(pieces, {}, false).text, "<|a|>x<|b|>y");
  EXPECT_EQ(Stream(pieces, {"xy"}, true).text, "");
}

TEST(TextStream, TheFirstTextLosesOneSpace) {
  EXPECT_EQ(Stream(Pieces({"<|a|>", "  x", " y"}, true), {}).text, " x y");
  EXPECT_EQ(Stream(Pieces({" ", " y"}, true), {}).text, " y");
  EXPECT_EQ(Stream(Pieces({" x"}, false), {}).text, " x");
}

// The first stop string to be complete in `text`, found the slow way.
std::string TruncatedAtStop(const std::string& text, const std::vector<std::string>& stop) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& s : stop) {
      if (s.size() <= end && text.compare(end - s.size(), s.size(), s) == 0) {
        longest = std::max(longest, s.size());
      }
    }
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

TEST(TextStream, HowTextIsCutIntoTokensDoesNotMatter) {
  std::mt19937 random(3);
  const std::string alphabet = "aab\xE2\x82\xAC\xC3\xA9\xFF ";
  const std::vector<std::vector<std::string>> stops = {{},
                                                       {"ab"},
                                                       {"aab", "ba"},
                                                       {"\u20AC"},
                                                       {"\uFFFD"
                                                        "a",
                                                        "a a"},
                                                       {"aaaa", "b", "\u00E9\u00E9"}};
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    for (size_t i = 0, n = random() % 24; i < n; ++i) bytes += alphabet[random() % alphabet.size()];
    std::vector<std::string> cut(1);
    for (const char c : bytes) {
      cut.back() += c;
      if (random() % 3 == 0) cut.emplace_back();
    }
    const auto& stop = stops[random() % stops.size()];
    const Outcome outcome = Stream(Pieces(cut), stop);
    for (const std::string& pushed : outcome.pushed) ASSERT_EQ(SanitizeUtf8(pushed), pushed);
    const std::string whole = SanitizeUtf8(bytes);
    ASSERT_EQ(outcome.text, TruncatedAtStop(whole, stop));
    ASSERT_EQ(outcome.stopped, outcome.text != whole);
  }
}

TEST(TextStream, RandomTokensOfRealVocabulariesEqualDecode) {
  std::mt19937 random(4);
  for (const std::string name : {"smollm", "llama-bpe", "spm-llama"}) {
    const auto tokenizer = GoldenTokenizer(name);
    for (int round = 0; round < 2000; ++round) {
      std::vector<int32_t> ids(random() % 20);
      std::string bytes;
      for (int32_t& id : ids) {
        // Single bytes often: they make half characters.
        id = static_cast<int32_t>(random() % (random() % 2 ? 260 : tokenizer->vocab_size()));
        bytes += tokenizer->TokenBytes(id);
      }
      TextStream stream(tokenizer.get(), {"\x01never\x02"}, /*skip_special=*/false);
      std::string text;
      for (const int32_t id : ids) text += stream.Push(id);
      text += stream.Flush();
      ASSERT_EQ(text, tokenizer->Decode(ids, /*skip_special=*/false));
      const bool strip = tokenizer->strips_leading_space() && bytes.substr(0, 1) == " ";
      ASSERT_EQ(text, SanitizeUtf8(absl::string_view(bytes).substr(strip ? 1 : 0)));
    }
  }
}

TEST(TextStream, ALongHeldBackBeginningCostsOnce) {
  const std::string long_stop = std::string(100'000, 'a') + "b";
  const Pieces pieces(std::vector<std::string>(300'000, "a"));
  const Outcome outcome = Stream(pieces, {long_stop});
  EXPECT_EQ(outcome.text.size(), 300'000u);
  EXPECT_FALSE(outcome.stopped);
}

}  // namespace
}  // namespace tessera::coordinator
