// What the golden ids do not show: BOS and EOS, control tokens against injection, ids out of range,
// the leading space, and texts that make naive implementations blow up.
#include "coordinator/text/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tests/coordinator/text/golden.h"

namespace tessera::coordinator {
namespace {

using testing::ElementsAre;

std::vector<int32_t> Encode(const Tokenizer& tokenizer, absl::string_view text,
                            EncodeOptions options = {}) {
  auto ids = tokenizer.Encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *std::move(ids) : std::vector<int32_t>();
}

TEST(Tokenizer, AddsBosAndEosWhenTheModelWantsThem) {
  v1::TokenizerDescription description = GoldenDescription("gpt2");
  description.set_add_bos(true);
  description.set_bos_id(1);
  description.set_add_eos(true);
  description.set_eos_id(0);
  const auto tokenizer = Tokenizer::Create(description);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(Encode(**tokenizer, ""), ElementsAre(1, 0));
  EXPECT_THAT(Encode(**tokenizer, "", {.add_special = false}), ElementsAre());
  EXPECT_EQ(Encode(**tokenizer, "hi").front(), 1);
  EXPECT_EQ(Encode(**tokenizer, "hi").back(), 0);
}

TEST(Tokenizer, TextNeverBecomesAControlTokenUnasked) {
  for (const std::string name : {"smollm", "gpt2", "llama-bpe", "qwen2", "spm-llama"}) {
    const auto tokenizer = GoldenTokenizer(name);
    for (const std::string& text : GoldenTexts()) {
      for (const int32_t id : Encode(*tokenizer, text, {.add_special = false})) {
        ASSERT_FALSE(tokenizer->IsControl(id)) << name << ": " << text.substr(0, 100);
      }
    }
  }
}

TEST(Tokenizer, PlainRangesHoldNoControlTokens) {
  const auto tokenizer = GoldenTokenizer("smollm");
  const std::string open = "<|im_start|>", text = open + "a" + open + "b" + open;
  const size_t second = open.size() + 1;
  const TextRange whole_second{second, second + open.size()};
  const int32_t control = Encode(*tokenizer, open, {false, true}).front();
  const auto controls = [&](std::vector<TextRange> plain) {
    const auto ids = Encode(*tokenizer, text, {false, true, plain});
    EXPECT_EQ(tokenizer->Decode(ids, /*skip_special=*/false), text);
    return std::count(ids.begin(), ids.end(), control);
  };
  EXPECT_EQ(controls({}), 3);
  EXPECT_EQ(controls({whole_second}), 2);
  // One byte of it is enough, at either end: no control token is half a user's.
  EXPECT_EQ(controls({{second, second + 1}}), 2);
  EXPECT_EQ(controls({{whole_second.end - 1, whole_second.end}}), 2);
  EXPECT_EQ(controls({{second - 1, second}}), 3);
  EXPECT_EQ(controls({{whole_second.end, whole_second.end + 1}}), 3);
  EXPECT_EQ(controls({{0, text.size()}}), 0);
  EXPECT_EQ(controls({{0, 1}, {second, second + 1}, {text.size() - 1, text.size()}}), 0);
}

TEST(Tokenizer, PlainRangesFollowReplacedBytes) {
  const auto tokenizer = GoldenTokenizer("smollm");
  const std::string open = "<|im_start|>", broken = "\xff\xff";  // each becomes three bytes
  const std::string text = broken + open + broken + open;
  const TextRange second{text.size() - open.size(), text.size()};
  const TextRange first{broken.size(), broken.size() + open.size()};
  const int32_t control = Encode(*tokenizer, open, {false, true}).front();
  EXPECT_EQ(Encode(*tokenizer, text, {false, true}).back(), control);
  const auto only_first = Encode(*tokenizer, text, {false, true, {second}});
  EXPECT_NE(only_first.back(), control);
  EXPECT_EQ(std::count(only_first.begin(), only_first.end(), control), 1);
  EXPECT_EQ(Encode(*tokenizer, text, {false, true, {first}}).back(), control);
}

TEST(Tokenizer, MergesIntoAControlTokenAreInert) {
  v1::TokenizerDescription description;
  description.set_kind(v1::TOKENIZER_KIND_BYTE_LEVEL_BPE);
  for (const char* token : {"a", "b", "ab", "aba"}) {
    description.add_tokens(token);
    description.add_types(std::string(token) == "ab" ? v1::TOKEN_TYPE_CONTROL : v1::TOKEN_TYPE_NORMAL);
  }
  description.add_merges("a b");
  description.add_merges("ab a");
  description.set_ignore_merges(true);
  const auto tokenizer = Tokenizer::Create(description);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(Encode(**tokenizer, "ab"), ElementsAre(0, 1));
  EXPECT_THAT(Encode(**tokenizer, "abab"), ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(Encode(**tokenizer, "abab", {.parse_special = true}), ElementsAre(2, 2));
}

TEST(Tokenizer, TheLongestOfTheLeftmostVerbatimTokensWins) {
  const auto tokenizer = GoldenTokenizer("gpt2");
  const auto bytes = [&](const std::string& text, bool parse_special) {
    std::vector<std::string> out;
    const EncodeOptions options{.add_special = false, .parse_special = parse_special};
    for (const int32_t id : Encode(*tokenizer, text, options)) {
      out.push_back(tokenizer->TokenBytes(id));
    }
    return out;
  };
  EXPECT_THAT(bytes("<thinking><think>", false), ElementsAre("<thinking>", "<think>"));
  EXPECT_THAT(bytes("<<|im_end|>", true), ElementsAre("<", "<|im_end|>"));
  EXPECT_THAT(bytes("\t\t\t", false), ElementsAre("\t\t", "\t"));
}

TEST(Tokenizer, IdsOutOfRangeStandForNothing) {
  const auto tokenizer = GoldenTokenizer("spm-llama");
  for (const int32_t id : {-1, tokenizer->vocab_size(), std::numeric_limits<int32_t>::min(),
                           std::numeric_limits<int32_t>::max()}) {
    EXPECT_EQ(tokenizer->TokenBytes(id), "");
    EXPECT_FALSE(tokenizer->IsControl(id));
    EXPECT_FALSE(tokenizer->IsStop(id));
  }
  EXPECT_EQ(tokenizer->Decode({-1, 1 << 30}, true), "");
  EXPECT_TRUE(tokenizer->IsStop(2));  // </s>
}

TEST(Tokenizer, TheSpacePrefixComesAndGoes) {
  const auto tokenizer = GoldenTokenizer("spm-llama");
  const auto ids = Encode(*tokenizer, " the  cat");
  EXPECT_EQ(ids.front(), 1);  // <s>
  EXPECT_EQ(tokenizer->Decode(ids, /*skip_special=*/true), " the  cat");
  EXPECT_EQ(tokenizer->Decode(ids, /*skip_special=*/false), "<s>  the  cat");
  EXPECT_THAT(Encode(*tokenizer, "", {.add_special = false}), ElementsAre());
  EXPECT_THAT(Encode(*tokenizer, "<s></s>", {.add_special = false, .parse_special = true}),
              ElementsAre(1, 2));
}

TEST(Tokenizer, SafeFromManyThreads) {
  const auto tokenizer = GoldenTokenizer("qwen2");
  const std::vector<std::string> texts = GoldenTexts();
  const auto encode_all = [&] {
    size_t count = 0;
    for (size_t i = 0; i < 500; ++i) {
      count += tokenizer->Encode(texts[i], {}).value_or(std::vector<int32_t>()).size();
    }
    return count;
  };
  const size_t expected = encode_all();
  std::vector<size_t> counts(4);
  std::vector<std::thread> threads;
  for (size_t& count : counts) threads.emplace_back([&] { count = encode_all(); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(counts, testing::Each(expected));
}

class WorstCase : public testing::TestWithParam<std::string> {};

// One piece of it all, backtracking over it all, a token at every step. Quadratic work would
// run into the test's time limit, recursion into the stack's.
TEST_P(WorstCase, UpToAMegabyteOfIt) {
  const auto tokenizer = GoldenTokenizer(GetParam());
  for (const std::string unit :
       {"a",        " ",      "\n",     "\t",           "ab", " a",        "  a",        " \n",
        "'s",       "1",      "\u00E9", "\u0307\u0323", "<",  "<|im_end|", "<|im_end|>", "\xFF",
        "\xF0\x9F", "\u4F60", "=",      "\u180E"}) {
    const size_t bytes_wanted = unit == "a" || unit == " " ? 1 << 20 : 1 << 18;
    std::string text;
    while (text.size() < bytes_wanted) text += unit;
    const auto ids = tokenizer->Encode(text, {.add_special = false, .parse_special = true});
    ASSERT_TRUE(ids.ok()) << ids.status() << " for " << unit;
    if (GetParam() == "gpt2") {  // every byte has a token, nothing is composed
      size_t bytes = 0;
      for (const int32_t id : *ids) bytes += tokenizer->TokenBytes(id).size();
      EXPECT_GE(bytes, text.size()) << unit;
    } else {
      EXPECT_FALSE(ids->empty() && unit != "\u180E") << unit;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, WorstCase,
                         testing::Values("smollm", "gpt2", "llama-bpe", "qwen2", "spm-llama"),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace tessera::coordinator
