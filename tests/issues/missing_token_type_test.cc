// `tessera plan` took a SentencePiece GGUF file without token types, and the coordinator turned its
// group away ("tokenizer.unk_id is absent, and not every byte has its token <0xNN>"): every token was
// a plain word. Without types, keys and spelling say which tokens are special and which are bytes.
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/issues/plan_and_serve.h"
#include "tests/worker/files/gguf_builder.h"

namespace tessera::testing {
namespace {

using ::testing::ElementsAre;
using namespace worker::testing;  // NOLINT: the builders of GGUF files

TEST(MissingTokenType, ByteTokensAreBytesAndSpecialOnesSpecial) {
  GgufBuilder gguf = TinyLlamaGguf();
  for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.tokens",
                          "tokenizer.ggml.token_type", "tokenizer.ggml.eos_token_id"}) {
    gguf.ErasePair(key);
  }
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(absl::StrFormat("<0x%02X>", byte));
  tokens.push_back("ab");
  gguf.AddString("tokenizer.ggml.model", "llama");
  gguf.AddStrings("tokenizer.ggml.tokens", tokens);
  gguf.AddArray<float>("tokenizer.ggml.scores", 6, std::vector<float>(tokens.size(), -1.0f));
  const auto size = static_cast<int64_t>(tokens.size());
  gguf.Find("token_embd.weight")->shape = {size, kTinyHidden};
  gguf.Find("token_embd.weight")->data = CountingFloats(size * kTinyHidden, 0);
  const Served served = PlanAndServe(gguf.Build());
  ASSERT_NE(served.tokenizer, nullptr);
  const v1::TokenizerDescription& tokenizer = served.description.tokenizer();
  EXPECT_EQ(tokenizer.types(0), v1::TOKEN_TYPE_UNKNOWN);
  EXPECT_EQ(tokenizer.types(1), v1::TOKEN_TYPE_CONTROL);
  EXPECT_EQ(tokenizer.types(2), v1::TOKEN_TYPE_CONTROL);
  EXPECT_EQ(tokenizer.types(3), v1::TOKEN_TYPE_BYTE);
  EXPECT_EQ(tokenizer.types(258), v1::TOKEN_TYPE_BYTE);
  EXPECT_EQ(tokenizer.types(259), v1::TOKEN_TYPE_NORMAL);
  EXPECT_EQ(served.tokenizer->TokenBytes(3 + 'z'), "z");
}

TEST(MissingTokenType, WellKnownEndsOfAByteLevelVocabularyEndGenerations) {
  GgufBuilder gguf = TinyLlamaGguf();
  gguf.ErasePair("tokenizer.ggml.token_type");
  gguf.ErasePair("tokenizer.ggml.eos_token_id");
  const Served served = PlanAndServe(gguf.Build());
  ASSERT_NE(served.tokenizer, nullptr);
  EXPECT_EQ(served.description.tokenizer().types(0), v1::TOKEN_TYPE_CONTROL);
  EXPECT_EQ(served.description.tokenizer().types(1), v1::TOKEN_TYPE_NORMAL);
  EXPECT_THAT(served.description.tokenizer().stop_ids(), ElementsAre(0));
}

}  // namespace
}  // namespace tessera::testing
