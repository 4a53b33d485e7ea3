// `tessera plan` took a file with 300 equal placeholder tokens, and the coordinator turned its group
// away when it joined: "tokenizer.tokens[8] is the same as token 7". Text becomes the last of them,
// as in llama.cpp; each of them is the same text.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/issues/plan_and_serve.h"
#include "tests/worker/files/gguf_builder.h"

namespace tessera::testing {
namespace {

using ::testing::ElementsAre;
using namespace worker::testing;  // NOLINT: the builders of GGUF files

constexpr int kEqual = 300;

GgufBuilder WithTokens(const std::vector<std::string>& tokens, const std::vector<int32_t>& types) {
  GgufBuilder gguf = TinyLlamaGguf();
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type"}) gguf.ErasePair(key);
  gguf.AddStrings("tokenizer.ggml.tokens", tokens);
  gguf.AddArray<int32_t>("tokenizer.ggml.token_type", 5, types);
  const auto size = static_cast<int64_t>(tokens.size());
  gguf.Find("token_embd.weight")->shape = {size, kTinyHidden};
  gguf.Find("token_embd.weight")->data = CountingFloats(size * kTinyHidden, 0);
  return gguf;
}

TEST(EqualTokensInAVocabulary, ArePlannedAndServed) {
  std::vector<std::string> tokens = {"<|endoftext|>", "a", "b", "c", "ab", "abc", "x"};
  std::vector<int32_t> types = {3, 1, 1, 1, 1, 1, 4};
  tokens.insert(tokens.end(), kEqual, "<unused>");
  types.insert(types.end(), kEqual, 3);
  const Served served = PlanAndServe(WithTokens(tokens, types).Build());
  ASSERT_NE(served.tokenizer, nullptr);
  EXPECT_EQ(served.tokenizer->vocab_size(), 7 + kEqual);
  const auto plain = served.tokenizer->Encode("abc", {});
  ASSERT_TRUE(plain.ok());
  EXPECT_THAT(*plain, ElementsAre(5));
  const auto special = served.tokenizer->Encode("<unused>", {.parse_special = true});
  ASSERT_TRUE(special.ok());
  EXPECT_THAT(*special, ElementsAre(7 + kEqual - 1));
  EXPECT_EQ(served.tokenizer->TokenBytes(7), "<unused>");
}

// Words, too: the last one is what text becomes.
TEST(EqualTokensInAVocabulary, TextBecomesTheLast) {
  const Served served = PlanAndServe(
      WithTokens({"<|endoftext|>", "a", "b", "c", "ab", "abc", "abc"}, {3, 1, 1, 1, 1, 1, 1})
          .Build());
  ASSERT_NE(served.tokenizer, nullptr);
  const auto ids = served.tokenizer->Encode("abc", {});
  ASSERT_TRUE(ids.ok());
  EXPECT_THAT(*ids, ElementsAre(6));
  EXPECT_EQ(served.tokenizer->TokenBytes(5), "abc");
}

}  // namespace
}  // namespace tessera::testing
