#include "proto/base/utf8.h"

#include <gtest/gtest.h>

#include <random>


namespace tessera {
namespace {

constexpr char kBad[] = "\xEF\xBF\xBD";

// Expected values: bytes.decode("utf-8", errors="replace") of Python 3.11.
TEST(SanitizeUtf8, OneReplacementPerMaximalSubpart) {
  const std::string bad = kBad;
  EXPECT_EQ(SanitizeUtf8(""), "");
  EXPECT_EQ(SanitizeUtf8("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"),
            "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
  EXPECT_EQ(SanitizeUtf8("\x80"), bad);
  EXPECT_EQ(SanitizeUtf8("\xC0\x80"), bad + bad);
  EXPECT_EQ(SanitizeUtf8("\xE2\x82"), bad);
  EXPECT_EQ(SanitizeUtf8("\xE2\x82z"), bad + "z");
  EXPECT_EQ(SanitizeUtf8("\xED\xA0\x80"), bad + bad + bad);
  EXPECT_EQ(SanitizeUtf8("\xF0\x9F\x98z"), bad + "z");
  EXPECT_EQ(SanitizeUtf8("\xF0\x8F\xBF\xBF"), bad + bad + bad + bad);
  EXPECT_EQ(SanitizeUtf8("\xF4\x90\x80\x80"), bad + bad + bad + bad);
  EXPECT_EQ(SanitizeUtf8("\xF0\x9F\x98\xF0\x9F\x98\x80"), bad + "\xF0\x9F\x98\x80");
  EXPECT_EQ(SanitizeUtf8(absl::string_view("\0\xFF\0", 3)), std::string("\0", 1) + bad + '\0');
}

TEST(WholeUtf8Prefix, StopsBeforeWhatMayBecomeACharacter) {
  EXPECT_EQ(WholeUtf8Prefix(""), 0u);
  EXPECT_EQ(WholeUtf8Prefix("abc"), 3u);
  EXPECT_EQ(WholeUtf8Prefix("a\xC3"), 1u);
  EXPECT_EQ(WholeUtf8Prefix("a\xE2\x82"), 1u);
  EXPECT_EQ(WholeUtf8Prefix("a\xE2\x82\xAC"), 4u);
  EXPECT_EQ(WholeUtf8Prefix("\xF0\x9F\x98"), 0u);
  EXPECT_EQ(WholeUtf8Prefix("\xF0\x9F\x98\x80"), 4u);
  EXPECT_EQ(WholeUtf8Prefix("\xE0\x80"), 2u) << "overlong: can no longer become a character";
  EXPECT_EQ(WholeUtf8Prefix("\xED\xA0"), 2u) << "surrogate";
  EXPECT_EQ(WholeUtf8Prefix("a\x80\x80"), 3u);
  EXPECT_EQ(WholeUtf8Prefix("\xF0\x9F\xC3"), 2u);
}

TEST(WholeUtf8Prefix, CuttingThereChangesNothing) {
  std::mt19937 random(1);
  const std::string interesting = "a\x80\xBF\xC3\xA9\xE2\x82\xED\xA0\xF0\x9F\x98\xF4\x90\xFF";
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    for (size_t i = 0, n = random() % 8; i < n; ++i) {
      bytes += interesting[random() % interesting.size()];
    }
    std::string pending, out;
    for (const char c : bytes) {
      pending += c;
      const size_t whole = WholeUtf8Prefix(pending);
      out += SanitizeUtf8(absl::string_view(pending).substr(0, whole));
      pending.erase(0, whole);
      ASSERT_LE(pending.size(), 3u);
    }
    ASSERT_EQ(out + SanitizeUtf8(pending), SanitizeUtf8(bytes));
  }
}

TEST(NormalizeNfc, ComposesAndOrders) {
  EXPECT_EQ(NormalizeNfc("plain"), "plain");
  EXPECT_EQ(NormalizeNfc("e\u0301"), "\u00E9");
  EXPECT_EQ(NormalizeNfc("a\u0307\u0323"), "\u1EA1\u0307");
  EXPECT_EQ(NormalizeNfc("\u1100\u1161\u11A8"), "\uAC01");
  EXPECT_EQ(NormalizeNfc("\u212B"), "\u00C5");
  EXPECT_EQ(NormalizeNfc("\u0958"), "\u0915\u093C") << "excluded from composition";
  EXPECT_EQ(NormalizeNfc("\uFB01"), "\uFB01") << "compatibility characters stay";
  EXPECT_EQ(NormalizeNfc(std::string("\0\u00E9", 3)), std::string("\0\u00E9", 3));
}

TEST(NormalizeNfc, ALongRunOfMarksInTheWrongOrder) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) text += i % 2 == 0 ? "\u0307" : "\u0323";
  const std::string composed = NormalizeNfc(text);
  EXPECT_EQ(composed.substr(0, 5), "\u1EA1\u0323");
  EXPECT_EQ(composed.size(), text.size());  // a + U+0323 became one character of three bytes
}

}  // namespace
}  // namespace tessera
