// Regular expressions and choices: what they match, what they refuse.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/coordinator/grammar/test_vocabulary.h"

namespace tessera::coordinator {
namespace {

struct RegexCase {
  std::string pattern;
  std::vector<std::string> matches;
  std::vector<std::string> others;
};

class RegexMatches : public testing::TestWithParam<RegexCase> {};

TEST_P(RegexMatches, ExactlyTheseTexts) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(Regex(GetParam().pattern), vocabulary.vocabulary);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  for (const std::string& text : GetParam().matches) {
    EXPECT_TRUE(Matches(**grammar, vocabulary, text)) << GetParam().pattern << " on " << text;
  }
  for (const std::string& text : GetParam().others) {
    EXPECT_FALSE(Matches(**grammar, vocabulary, text)) << GetParam().pattern << " on " << text;
  }
}

std::string Times(int count, const std::string& text) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

INSTANTIATE_TEST_SUITE_P(
    Forms, RegexMatches,
    testing::Values(
        RegexCase{"abc", {"abc"}, {"", "ab", "abcd", "ABC"}},
        RegexCase{"^abc$", {"abc"}, {"abcabc"}},
        RegexCase{"^a$|^b$|c", {"a", "b", "c"}, {"ab", ""}},
        RegexCase{"a|bc|", {"a", "bc", ""}, {"b", "abc"}},
        RegexCase{"a*", {"", "a", "aaaaaaaa"}, {"b", "aab"}},
        RegexCase{"a+b?", {"a", "aab"}, {"", "b", "abb"}},
        RegexCase{"a{2,4}", {"aa", "aaa", "aaaa"}, {"a", "aaaaa"}},
        RegexCase{"a{3}", {"aaa"}, {"aa", "aaaa"}},
        RegexCase{"a{2,}", {"aa", "aaaaaaa"}, {"a"}},
        RegexCase{"a{0}b", {"b"}, {"ab"}},
        RegexCase{"a{0,1}?b*?c+?", {"c", "abcc"}, {"aac"}},
        RegexCase{"(ab){2,300}", {"abab", Times(300, "ab")}, {"ab", "aba", Times(301, "ab")}},
        RegexCase{"(?:x{150}y){150}",
                  {Times(150, Times(150, "x") + "y")},
                  {Times(149, Times(150, "x") + "y"), Times(150, Times(149, "x") + "y")}},
        RegexCase{"(a?){3}b", {"b", "ab", "aaab"}, {"aaaab", "a"}},
        RegexCase{"(a|b?){2,100}c", {"c", "abac", Times(100, "a") + "c"}, {Times(101, "b") + "c"}},
        RegexCase{"(?:(a+)+|(b*)*)+", {"", "aab", "baba"}, {"c"}},
        RegexCase{"[a-cx]", {"a", "b", "c", "x"}, {"d", "ab", ""}},
        RegexCase{"[^a-c]", {"d", "é", "😀", "\n"}, {"a", "dd", "\xC3"}},
        RegexCase{"[-a]+[b-]", {"-b", "a-", "--"}, {"ab-"}},
        RegexCase{"[\\d\\-_.]+", {"1-2_3.4"}, {"a"}},
        RegexCase{"[\\]\\\\^]", {"]", "\\", "^"}, {"["}},
        RegexCase{"\\d\\D\\w\\W\\s\\S", {"1a_- x"}, {"aa_- x", "1a_-xx"}},
        RegexCase{"\\t\\n\\x41\\u00e9\\u{1F600}\\uD83D\\uDE00", {"\t\nAé😀😀"}, {"\t\nAe😀😀"}},
        RegexCase{".", {"a", "é", "😀"}, {"\n", "\xE2\x82", "\xFF", "\xED\xA0\x80"}},
        RegexCase{"\\{\\}\\(\\)\\*\\/x{a}]", {"{}()*/x{a}]"}, {"x"}},
        RegexCase{"(?P<year>\\d{4})-(?<m>\\d\\d)", {"2024-05"}, {"24-05"}},
        RegexCase{"[а-я]+", {"привет"}, {"Привет", "abc"}},
        RegexCase{"é+", {"é", "éé"}, {"\xC3", "é\xC3"}},
        RegexCase{"[\\u0000-\\u{10FFFF}]{2}", {"é😀", "ab"}, {"a", "abc", "\xC0\x80"}}));

struct RefusalCase {
  std::string pattern;
  std::string says;
};

class RegexRefusal : public testing::TestWithParam<RefusalCase> {};

TEST_P(RegexRefusal, NamesTheFieldAndTheReason) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(Regex(GetParam().pattern), vocabulary.vocabulary);
  ASSERT_FALSE(grammar.ok()) << GetParam().pattern.substr(0, 80);
  EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(grammar.status().message());
  EXPECT_EQ(message.find("structured.regex"), 0U) << message;
  EXPECT_NE(message.find(GetParam().says), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(
    Forms, RegexRefusal,
    testing::Values(
        RefusalCase{"a(?=b)", "look-ahead"}, RefusalCase{"(?i)a", "flags"},
        RefusalCase{"(?<=a)b", "look-behind"}, RefusalCase{"(?<!a)b", "look-behind"},
        RefusalCase{"(a)\\1", "back references are not supported (at offset 3)"},
        RefusalCase{"\\bfoo", "word boundaries"}, RefusalCase{"\\p{L}", "\\p is not supported"},
        RefusalCase{"\\Z", "\\Z is not supported"}, RefusalCase{"a**", "repeats a repeat"},
        RefusalCase{"a{2}{3}", "repeats a repeat"}, RefusalCase{"a++", "possessive"},
        RefusalCase{"*a", "nothing to repeat"}, RefusalCase{"a|+", "nothing to repeat"},
        RefusalCase{"(a", "not closed"}, RefusalCase{"a)", "closes no group"},
        RefusalCase{"[a", "not closed"}, RefusalCase{"[]", "empty"},
        RefusalCase{"[z-a]", "range"}, RefusalCase{"[a-\\d]", "range"},
        RefusalCase{"[[:alpha:]]", "[:alpha:]"}, RefusalCase{"a{3,2}", "smaller"},
        RefusalCase{"a{2,x}", "{m,n}"}, RefusalCase{"a{1000000}", "more than"},
        RefusalCase{"a{99999}{9}", "repeats a repeat"}, RefusalCase{"a$b", "only at the end"},
        RefusalCase{"a^b", "only at the start"}, RefusalCase{"(^a)", "only at the start"},
        RefusalCase{"\\", "backslash"}, RefusalCase{"\\uD83D", "surrogate"},
        RefusalCase{"\\u12", "\\u"}, RefusalCase{"\\xZZ", "\\x"},
        RefusalCase{"a\xFF", "UTF-8"}, RefusalCase{"[^\\s\\S]", "matches nothing"},
        RefusalCase{"a[^\\s\\S]", "matches nothing"}));

TEST(Choice, EndsWhereAChoiceEnds) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(Choice({"yes", "no", "yesno", "é"}),
                                                vocabulary.vocabulary);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  for (const char* text : {"yes", "no", "yesno", "é"}) {
    EXPECT_TRUE(Matches(**grammar, vocabulary, text)) << text;
  }
  for (const char* text : {"", "y", "yesn", "yesyes", "nono", "\xC3"}) {
    EXPECT_FALSE(Matches(**grammar, vocabulary, text)) << text;
  }
}

TEST(Choice, OneThatBeginsAnotherMayStopOrGoOn) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(Choice({"foo", "foobar"}), vocabulary.vocabulary);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  const auto constraint = (*grammar)->Start();
  ASSERT_TRUE(AcceptBytes(*constraint, "foo"));
  const std::string mask = constraint->AllowedMask();
  EXPECT_TRUE(Allows(mask, vocabulary.tokenizer->stop_id()));
  EXPECT_TRUE(Allows(mask, 'b'));
  EXPECT_FALSE(Allows(mask, 'a'));
}

TEST(Choice, RefusesNoneEmptyAndTooMany) {
  const TestVocabulary vocabulary;
  const auto message = [&](const std::vector<std::string>& values) {
    const auto grammar = CompiledGrammar::Compile(Choice(values), vocabulary.vocabulary);
    EXPECT_FALSE(grammar.ok());
    return std::string(grammar.status().message());
  };
  EXPECT_EQ(message({}), "structured.choice is empty");
  EXPECT_EQ(message({"a", ""}), "structured.choice[1] is empty");
  EXPECT_NE(message(std::vector<std::string>(10'000, "a")).find("10000"), std::string::npos);
}

TEST(Regex, BeyondALoopOfAnyLengthTheMaskStaysTheSame) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(Regex("a{10,5000}b"), vocabulary.vocabulary);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  const auto constraint = (*grammar)->Start();
  ASSERT_TRUE(AcceptBytes(*constraint, std::string(100, 'a')));
  const std::string* first = &constraint->AllowedMask();
  const auto later = constraint->Clone();
  ASSERT_TRUE(AcceptBytes(*later, std::string(4000, 'a')));
  EXPECT_EQ(&later->AllowedMask(), first);  // one mask serves both
  ASSERT_TRUE(AcceptBytes(*later, std::string(900, 'a')));
  EXPECT_FALSE(later->Accept('a'));
  EXPECT_TRUE(later->Accept('b'));
}

}  // namespace
}  // namespace tessera::coordinator
