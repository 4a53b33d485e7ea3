// Random outputs of many grammars: whatever the draws, an output parses and is valid; masks equal
// those of trying each token on its own; random instances are accepted however they are cut.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/grammar/schema_validator.h"
#include "tests/coordinator/grammar/test_vocabulary.h"

namespace tessera::coordinator {
namespace {

const char* const kSchemas[] = {
    R"({"type":"object"})",
    "true",
    R"({"type":"array","items":{"type":"number","minimum":-2.5,"exclusiveMaximum":1e2}})",
    R"({"type":"array","items":{"type":"integer","minimum":-17,"maximum":4000},"minItems":1,
        "maxItems":4})",
    R"({"type":"object","properties":{"name":{"type":"string","minLength":1,"maxLength":40},
        "age":{"type":"integer","minimum":0,"maximum":150},
        "tags":{"type":"array","items":{"enum":["foo","foobar","é",null,1.5]},"maxItems":3},
        "mail":{"type":"string","format":"email"}},
        "required":["name","tags"],"additionalProperties":false})",
    R"({"$defs":{"tree":{"type":"object","properties":{"v":{"type":["integer","null"]},
        "kids":{"type":"array","items":{"$ref":"#/$defs/tree"},"maxItems":2}},
        "required":["v","kids"]}},"$ref":"#/$defs/tree"})",
    R"({"anyOf":[{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"string"}},
        "required":["k","x"]},{"type":"object","properties":{"k":{"const":"ab"},
        "x":{"type":"boolean"}},"required":["k","x"]},{"type":"null"}]})",
    R"({"type":"object","properties":{"id":{"type":"string","pattern":"^[a-z\"\\\\]{2,5}(-[0-9]+)?$"}},
        "required":["id","more"],"additionalProperties":{"type":["boolean","string"]}})",
    R"({"allOf":[{"type":"object","properties":{"n":{"type":"number","minimum":0}}},
        {"properties":{"n":{"maximum":1},"m":{"type":"integer"}},"required":["n"]}]})",
    R"({"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}],"minItems":1,
        "items":{"type":"boolean"}})",
};

int32_t DrawAllowed(const std::string& mask, std::mt19937& random) {
  std::vector<int32_t> allowed;
  for (int32_t id = 0; id < static_cast<int32_t>(mask.size()) * 8; ++id) {
    if (Allows(mask, id)) allowed.push_back(id);
  }
  return allowed.empty() ? -1 : allowed[random() % allowed.size()];
}

// Draws until the stop token; favours ends once it is long, as all but endless models do.
std::string DrawOutput(const CompiledGrammar& grammar, const TestVocabulary& vocabulary,
                       std::mt19937& random) {
  const auto constraint = grammar.Start();
  std::string text;
  for (int step = 0; step < 6000; ++step) {
    const std::string& mask = constraint->AllowedMask();
    int32_t token = DrawAllowed(mask, random);
    if (token < 0) return "no token is allowed behind " + text;
    if (step > 40) {
      for (const int32_t end : {vocabulary.tokenizer->stop_id(), int32_t{'}'}, int32_t{']'},
                                int32_t{'"'}}) {
        if (Allows(mask, end) && random() % 4 != 0) {
          token = end;
          break;
        }
      }
    }
    if (token == vocabulary.tokenizer->stop_id()) {
      EXPECT_TRUE(constraint->Accept(token));
      return text;
    }
    EXPECT_TRUE(constraint->Accept(token)) << token << " behind " << text;
    text += vocabulary.tokenizer->TokenBytes(token);
  }
  return "no end: " + text;
}

class SchemaFuzz : public testing::TestWithParam<const char*> {};

TEST_P(SchemaFuzz, EveryOutputParsesAndIsValid) {
  const TestVocabulary vocabulary;
  const auto schema = nlohmann::json::parse(GetParam());
  const auto grammar = CompiledGrammar::Compile(Schema(GetParam()), vocabulary.vocabulary);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  std::mt19937 random(1);
  for (int run = 0; run < 60; ++run) {
    const std::string text = DrawOutput(**grammar, vocabulary, random);
    const auto value = nlohmann::json::parse(text, nullptr, false);
    ASSERT_FALSE(value.is_discarded()) << text;
    ASSERT_TRUE(IsValid(value, schema, schema)) << text;
  }
}

// An output cut into tokens in any way is accepted: the mask has each of them.
TEST_P(SchemaFuzz, AnOutputIsAllowedHoweverItIsCut) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(Schema(GetParam()), vocabulary.vocabulary);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  std::mt19937 random(2);
  for (int run = 0; run < 15; ++run) {
    const std::string text = DrawOutput(**grammar, vocabulary, random);
    const auto constraint = (*grammar)->Start();
    for (size_t at = 0; at < text.size();) {
      std::vector<int32_t> fitting;
      for (int32_t id = 0; id < vocabulary.tokenizer->stop_id(); ++id) {
        const std::string& bytes = vocabulary.tokenizer->TokenBytes(id);
        if (text.compare(at, bytes.size(), bytes) == 0) fitting.push_back(id);
      }
      const std::string mask = constraint->AllowedMask();
      for (const int32_t id : fitting) {
        ASSERT_TRUE(Allows(mask, id)) << vocabulary.tokenizer->TokenBytes(id) << " behind "
                                      << text.substr(0, at);
      }
      const int32_t token = fitting[random() % fitting.size()];
      ASSERT_TRUE(constraint->Accept(token));
      at += vocabulary.tokenizer->TokenBytes(token).size();
    }
    ASSERT_TRUE(Allows(constraint->AllowedMask(), vocabulary.tokenizer->stop_id())) << text;
  }
}

TEST_P(SchemaFuzz, MasksAreThoseOfTryingEachToken) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(Schema(GetParam()), vocabulary.vocabulary);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  std::mt19937 random(3);
  for (int run = 0; run < 4; ++run) {
    const auto constraint = (*grammar)->Start();
    for (int step = 0; step < 60; ++step) {
      const auto before = constraint->Clone();  // its mask is not yet known: bytes decide
      const std::string mask = constraint->AllowedMask();
      for (int32_t id = 0; id < vocabulary.tokenizer->vocab_size(); ++id) {
        ASSERT_EQ(before->Clone()->Accept(id), Allows(mask, id)) << "token " << id;
      }
      const int32_t token = DrawAllowed(mask, random);
      ASSERT_TRUE(constraint->Accept(token));
      if (token == vocabulary.tokenizer->stop_id()) break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Schemas, SchemaFuzz, testing::ValuesIn(kSchemas),
                         [](const auto& test) { return std::to_string(test.index); });

TEST(Constraint, RefusesWhatTheMaskRefusesAndStaysWhereItWas) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(Choice({"yes", "no"}), vocabulary.vocabulary);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  const auto constraint = (*grammar)->Start();
  const std::string start = constraint->AllowedMask();
  for (const int32_t token : {int32_t{'x'}, -1, 1 << 30, vocabulary.tokenizer->stop_id()}) {
    EXPECT_FALSE(constraint->Accept(token)) << token;
    EXPECT_EQ(constraint->AllowedMask(), start);
  }
  const auto other = constraint->Clone();
  ASSERT_TRUE(AcceptBytes(*constraint, "yes"));
  EXPECT_EQ(other->AllowedMask(), start);
  ASSERT_TRUE(constraint->Accept(vocabulary.tokenizer->stop_id()));
  EXPECT_FALSE(constraint->Accept('y'));
  EXPECT_TRUE(Allows(constraint->AllowedMask(), vocabulary.tokenizer->stop_id()));
}

TEST(Constraint, TheSameSourceSharesItsMasks) {
  const TestVocabulary vocabulary;
  const auto first = CompiledGrammar::Compile(JsonObject(), vocabulary.vocabulary);
  for (int i = 0; i < 100; ++i) {  // others push it out of what the vocabulary keeps
    const auto other = CompiledGrammar::Compile(Regex(absl::StrCat("a", i)),
                                                vocabulary.vocabulary);
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_FALSE((*other)->Start()->Accept('{'));
    if (i != 5) continue;
    const auto second = CompiledGrammar::Compile(JsonObject(), vocabulary.vocabulary);
    const auto one = (*first)->Start();
    const auto two = (*second)->Start();
    EXPECT_EQ(&one->AllowedMask(), &two->AllowedMask());
  }
  EXPECT_TRUE((*first)->Start()->Accept('{'));
}

TEST(Constraint, AVocabularyWithoutAByteRefusesWhatNeedsIt) {
  std::vector<std::string> tokens;
  for (char c = 'a'; c <= 'y'; ++c) tokens.emplace_back(1, c);
  const TestVocabulary vocabulary(tokens);
  const auto refused = CompiledGrammar::Compile(Choice({"zoo"}), vocabulary.vocabulary);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("vocabulary"), absl::string_view::npos);
  const auto grammar = CompiledGrammar::Compile(Regex("[x-z]+q"), vocabulary.vocabulary);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  EXPECT_TRUE((*grammar)->Start()->Accept('x' - 'a'));
}

TEST(Constraint, WithoutAStopTokenThereIsNoEnd) {
  const TokenList tokenizer({"a"});
  const auto vocabulary = GrammarVocabulary::Create(tokenizer, {}, 2);
  EXPECT_FALSE(CompiledGrammar::Compile(Regex("a"), vocabulary).ok());
}

}  // namespace
}  // namespace tessera::coordinator
