// A description that does not hold together is refused by the name of its field.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <random>

#include "coordinator/text/tokenizer/tokenizer.h"
#include "tests/coordinator/text/golden.h"

namespace tessera::coordinator {
namespace {

using Description = v1::TokenizerDescription;

struct Refusal {
  std::string base;  // golden description that is then spoiled
  std::function<void(Description&)> spoil;
  std::string message;  // its beginning
};

void SetToken(Description& d, int id, std::string token) { d.set_tokens(id, std::move(token)); }
void SetMerge(Description& d, int rank, std::string merge) { d.set_merges(rank, std::move(merge)); }

TEST(TokenizerRefusal, NamesTheField) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<Refusal> refusals = {
      {"gpt2", [](Description& d) { d.clear_kind(); }, "tokenizer.kind is 0"},
      {"gpt2", [](Description& d) { d.set_kind(static_cast<v1::TokenizerKind>(9)); },
       "tokenizer.kind is 9"},
      {"gpt2", [](Description& d) { d.clear_tokens(); }, "tokenizer.tokens is empty"},
      {"gpt2", [](Description& d) { d.mutable_types()->RemoveLast(); }, "tokenizer.types has"},
      {"gpt2", [](Description& d) { d.set_types(5, static_cast<v1::TokenType>(77)); },
       "tokenizer.types[5] is 77"},
      {"gpt2", [](Description& d) { SetToken(d, 1400, "a b"); }, "tokenizer.tokens[1400] 'a b'"},
      {"gpt2", [](Description& d) { SetToken(d, 1400, "\xFF"); }, "tokenizer.tokens[1400]"},
      {"gpt2", [](Description& d) { d.set_tokens(1400, std::string(1 << 20, 'q')); },
       "tokenizer.tokens[1400] is 1048576 bytes long"},
      {"gpt2", [](Description& d) { d.set_tokens(0, std::string(5000, '<')); },
       "tokenizer.tokens[0] is a control"},
      {"gpt2", [](Description& d) { d.set_bos_id(-1); }, "tokenizer.bos_id is -1"},
      {"gpt2", [](Description& d) { d.set_eos_id(d.tokens_size()); }, "tokenizer.eos_id is"},
      {"gpt2", [](Description& d) { d.set_unk_id(1 << 30); }, "tokenizer.unk_id is"},
      {"gpt2", [](Description& d) { d.set_pad_id(-5); }, "tokenizer.pad_id is"},
      {"gpt2", [](Description& d) { d.add_stop_ids(99999); }, "tokenizer.stop_ids[1] is 99999"},
      {"gpt2", [](Description& d) { d.set_add_bos(true); }, "tokenizer.bos_id is absent"},
      {"gpt2", [](Description& d) { d.set_add_eos(true), d.clear_eos_id(); },
       "tokenizer.eos_id is absent"},
      {"gpt2", [](Description& d) { SetMerge(d, 3, "ab"); }, "tokenizer.merges[3] is 'ab'"},
      {"gpt2", [](Description& d) { SetMerge(d, 3, " ab"); }, "tokenizer.merges[3] is ' ab'"},
      {"gpt2", [](Description& d) { SetMerge(d, 3, "a "); }, "tokenizer.merges[3] is 'a '"},
      {"gpt2", [](Description& d) { SetMerge(d, 3, "a b c"); }, "tokenizer.merges[3] is 'a b c'"},
      {"gpt2", [](Description& d) { SetMerge(d, 3, "qqq a"); }, "tokenizer.merges[3] has 'qqq'"},
      {"gpt2", [](Description& d) { SetMerge(d, 3, "a qqq"); }, "tokenizer.merges[3] has 'qqq'"},
      {"gpt2", [](Description& d) { SetMerge(d, 3, "Q Q"); }, "tokenizer.merges[3] has 'QQ'"},
      {"gpt2", [](Description& d) { d.add_merges(d.merges(0)); },
       "tokenizer.merges[1241] merges the same"},
      {"gpt2", [](Description& d) { d.set_pre_tokenizer_patterns(0, "[a"); },
       "tokenizer.pre_tokenizer_patterns[0] does not compile"},
      {"spm-llama", [](Description& d) { d.clear_scores(); }, "tokenizer.scores has 0"},
      {"spm-llama", [=](Description& d) { d.set_scores(7, nan); }, "tokenizer.scores[7] is not"},
      {"spm-llama", [](Description& d) { SetToken(d, 7, "<0xZZ>"); }, "tokenizer.tokens[7] is"},
      {"spm-llama", [](Description& d) { d.clear_unk_id(), d.set_types(7, v1::TOKEN_TYPE_UNUSED); },
       "tokenizer.unk_id is absent"},
      {"spm-unknown", [](Description& d) { d.clear_unk_id(); }, "tokenizer.unk_id is absent"},
  };
  for (const Refusal& refusal : refusals) {
    Description description = GoldenDescription(refusal.base);
    refusal.spoil(description);
    const auto tokenizer = Tokenizer::Create(description);
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << refusal.message;
    EXPECT_THAT(std::string(tokenizer.status().message()), testing::StartsWith(refusal.message));
  }
}

TEST(TokenizerRefusal, EmptyPlaceholdersAreHarmless) {
  Description description = GoldenDescription("gpt2");
  for (int i = 0; i < 3; ++i) {
    description.add_tokens("");
    description.add_types(i == 0 ? v1::TOKEN_TYPE_NORMAL : i == 1 ? v1::TOKEN_TYPE_CONTROL : v1::TOKEN_TYPE_USER_DEFINED);
  }
  const auto tokenizer = Tokenizer::Create(description);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto ids = (*tokenizer)->Encode("the cat", {.parse_special = true});
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ((*tokenizer)->Decode(*ids, false), "the cat");
}

// Whatever the bytes say, the answer is a status or a tokenizer that works.
TEST(TokenizerRefusal, DamagedMessagesNeverCrash) {
  std::mt19937 random(7);
  for (const std::string name : {"qwen2", "spm-llama"}) {
    const std::string good = GoldenDescription(name).SerializeAsString();
    for (int round = 0; round < 300; ++round) {
      std::string bytes = good;
      for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
      Description description;
      if (!description.ParseFromString(bytes)) continue;
      const auto tokenizer = Tokenizer::Create(description);
      if (!tokenizer.ok()) continue;
      const auto ids = (*tokenizer)->Encode("Hello <|im_end|> w\u00F6rld", {.parse_special = true});
      if (ids.ok()) (*tokenizer)->Decode(*ids, false);
    }
  }
}

}  // namespace
}  // namespace tessera::coordinator
