// Sources made to be expensive: each is refused or compiled, with counted work, and what compiles
// still gives a mask. No times are asserted; benchmarks/serving prints them.
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/grammar/test_vocabulary.h"

namespace tessera::coordinator {
namespace {

std::string Times(int count, const std::string& text) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

struct BoundCase {
  v1::StructuredOutput source;
  std::string says;  // empty: it compiles
};

v1::StructuredOutput ManyOptional(int count) {
  std::string properties;
  for (int i = 0; i < count; ++i) absl::StrAppend(&properties, i ? "," : "", "\"p", i, "\":{}");
  return Schema(absl::StrCat("{\"properties\":{", properties, "}}"));
}

v1::StructuredOutput Doubling(int levels) {
  std::string defs = "\"d0\":{\"type\":\"integer\"}";
  for (int i = 1; i <= levels; ++i) {
    absl::StrAppend(&defs, ",\"d", i, "\":{\"type\":\"array\",\"items\":{\"allOf\":[{\"$ref\":",
                    "\"#/$defs/d", i - 1, "\"},{\"anyOf\":[{\"$ref\":\"#/$defs/d", i - 1,
                    "\"},{\"$ref\":\"#/$defs/d", i - 1, "\"}]}]}}");
  }
  return Schema(absl::StrCat("{\"$defs\":{", defs, "},\"$ref\":\"#/$defs/d", levels, "\"}"));
}

class Bounds : public testing::TestWithParam<BoundCase> {};

TEST_P(Bounds, AreKept) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(GetParam().source, vocabulary.vocabulary);
  if (!GetParam().says.empty()) {
    ASSERT_FALSE(grammar.ok());
    const std::string message(grammar.status().message());
    EXPECT_NE(message.find(GetParam().says), std::string::npos) << message;
    EXPECT_LT(message.size(), 1000U);
    return;
  }
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  const auto constraint = (*grammar)->Start();
  for (int step = 0; step < 20; ++step) {
    const std::string mask = constraint->AllowedMask();
    int32_t token = 0;
    while (token < vocabulary.tokenizer->vocab_size() && !Allows(mask, token)) ++token;
    ASSERT_LT(token, vocabulary.tokenizer->vocab_size()) << "nothing is allowed";
    ASSERT_TRUE(constraint->Accept(token));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Schemas, Bounds,
    testing::Values(
        BoundCase{Schema(Times(50'000, "[")), "nests more than"},
        BoundCase{Schema(Times(100'000, "[")), "bytes long"},
        BoundCase{Schema(Times(10'000, "{\"a\":")), "nests more than"},
        BoundCase{Schema(Times(60, "{\"items\":") + "{}" + Times(60, "}")), ""},
        BoundCase{Schema("\"" + Times(70'000, "a") + "\""), "bytes long"},
        BoundCase{ManyOptional(400), ""}, BoundCase{ManyOptional(1000), "more than"},
        BoundCase{ManyOptional(3000), "members"},
        BoundCase{Doubling(20), "too"},
        BoundCase{Schema(R"({"items":{"items":{"items":{"type":"string","maxLength":9999},
                          "maxItems":9999},"maxItems":9999},"maxItems":9999})"), ""},
        BoundCase{Schema(Times(60, R"({"minItems":2,"items":)") + "{}" + Times(60, "}")), ""},
        BoundCase{Schema("{\"enum\":[" + Times(20'000, "1,") + "2]}"), ""},
        BoundCase{Schema("{\"properties\":{\"" + Times(40'000, "k") +
                         "\":{}},\"additionalProperties\":true}"), ""},
        BoundCase{Schema("{\"pattern\":\"" + Times(10'000, "[^a]") + "\"}"), "more than"},
        BoundCase{Schema(R"({"allOf":[)" + Times(3000, R"({"type":"string"},)") + "{}]}"), ""}));

INSTANTIATE_TEST_SUITE_P(
    Expressions, Bounds,
    testing::Values(
        BoundCase{Regex("(a+)+$"), ""}, BoundCase{Regex("(a|a|aa)*b"), ""},
        BoundCase{Regex("(x{1000}){1000}"), ""}, BoundCase{Regex("((x{9999}){9999}){9999}"), ""},
        BoundCase{Regex("((x{99999}){99999}){99999}"), "more than"},
        BoundCase{Regex(Times(60, "(") + "a" + Times(60, "b)+")), ""},
        BoundCase{Regex("(.*a){50}"), ""}, BoundCase{Regex("(x{0,1000}y?){1000}"), ""},
        BoundCase{Regex("(a?){1000}b"), ""}, BoundCase{Regex(Times(30'000, "a?")), "more than"},
        BoundCase{Regex(Times(65'000, ".")), "more than"}, BoundCase{Regex(Times(40'000, "a")), ""},
        BoundCase{Regex(Times(65'536, "a")), "bytes long"},
        BoundCase{Regex(Times(60'000, "(")), "groups nest deeper"},
        BoundCase{Regex(Times(30'000, "a|")), ""}, BoundCase{Regex(Times(20'000, "[")), "not closed"},
        BoundCase{Regex("(([^\\d]{1,99}\\w*){1,99}.*){1,99}"), ""}));

}  // namespace
}  // namespace tessera::coordinator
