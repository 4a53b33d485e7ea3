// `tessera plan` took a GGUF file whose kind of tokenizer begins prompts with a BOS token and that
// names none, and the coordinator turned its group away: "tokenizer.bos_id is absent although add_bos
// is set". A SentencePiece vocabulary has its usual ids then, as in llama.cpp; another has no BOS.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/issues/plan_and_serve.h"
#include "tests/worker/files/gguf_builder.h"

namespace tessera::testing {
namespace {

using ::testing::ElementsAre;
using namespace worker::testing;  // NOLINT: the builders of GGUF files

TEST(MissingBosTokenId, AByteLevelVocabularyHasNone) {
  GgufBuilder gguf = TinyLlamaGguf();
  gguf.ErasePair("tokenizer.ggml.pre");
  gguf.AddString("tokenizer.ggml.pre", "llama-bpe");
  gguf.AddBool("tokenizer.ggml.add_bos_token", true);
  const Served served = PlanAndServe(gguf.Build());
  ASSERT_NE(served.tokenizer, nullptr);
  EXPECT_FALSE(served.description.tokenizer().add_bos());
  const auto ids = served.tokenizer->Encode("abc", {.add_special = true});
  ASSERT_TRUE(ids.ok());
  EXPECT_THAT(*ids, ElementsAre(5));
}

TEST(MissingBosTokenId, NorAnEndWhereThatIsMissing) {
  GgufBuilder gguf = TinyLlamaGguf();
  gguf.ErasePair("tokenizer.ggml.eos_token_id");
  gguf.AddBool("tokenizer.ggml.add_eos_token", true);
  const Served served = PlanAndServe(gguf.Build());
  ASSERT_NE(served.tokenizer, nullptr);
  EXPECT_FALSE(served.description.tokenizer().add_eos());
}

TEST(MissingBosTokenId, ASentencePieceVocabularyHasItsUsualOnes) {
  GgufBuilder gguf = TinyLlamaGguf();
  for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.tokens",
                          "tokenizer.ggml.token_type", "tokenizer.ggml.eos_token_id"}) {
    gguf.ErasePair(key);
  }
  gguf.AddString("tokenizer.ggml.model", "llama");
  gguf.AddStrings("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "a", "b", "ab", "\u2581"});
  gguf.AddArray<int32_t>("tokenizer.ggml.token_type", 5, {2, 3, 3, 1, 1, 1, 1});
  gguf.AddArray<float>("tokenizer.ggml.scores", 6, {0, 0, 0, -1, -2, -3, -4});
  const Served served = PlanAndServe(gguf.Build());
  ASSERT_NE(served.tokenizer, nullptr);
  EXPECT_EQ(served.description.tokenizer().bos_id(), 1);
  EXPECT_EQ(served.description.tokenizer().eos_id(), 2);
  EXPECT_EQ(served.description.tokenizer().unk_id(), 0);
  EXPECT_THAT(served.description.tokenizer().stop_ids(), ElementsAre(2));
  const auto ids = served.tokenizer->Encode("ab", {.add_special = true});
  ASSERT_TRUE(ids.ok());
  EXPECT_THAT(*ids, ElementsAre(1, 6, 5));
}

}  // namespace
}  // namespace tessera::testing
