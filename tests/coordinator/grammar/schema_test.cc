// JSON schemas: which texts they allow, and what they refuse.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/coordinator/grammar/test_vocabulary.h"

namespace tessera::coordinator {
namespace {

struct SchemaCase {
  std::string schema;
  std::vector<std::string> matches;
  std::vector<std::string> others;
};

class SchemaMatches : public testing::TestWithParam<SchemaCase> {};

TEST_P(SchemaMatches, ExactlyTheseTexts) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(Schema(GetParam().schema), vocabulary.vocabulary);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  for (const std::string& text : GetParam().matches) {
    EXPECT_TRUE(Matches(**grammar, vocabulary, text)) << GetParam().schema << " on " << text;
  }
  for (const std::string& text : GetParam().others) {
    EXPECT_FALSE(Matches(**grammar, vocabulary, text)) << GetParam().schema << " on " << text;
  }
}

// A JSON string of so many letters.
std::string Letters(size_t count) {
  std::string text(count + 2, 'x');
  text.front() = text.back() = '"';
  return text;
}

INSTANTIATE_TEST_SUITE_P(
    Scalars, SchemaMatches,
    testing::Values(
        SchemaCase{R"({"type":"boolean"})", {"true", "false"}, {"null", "True", " true", "true "}},
        SchemaCase{R"({"type":["null","integer"]})", {"null", "1", "-12", "0"}, {"1.5", "01", "-"}},
        SchemaCase{R"({"type":"number"})",
                   {"0", "-0", "1.5", "12e3", "1E-7", "-3.25e+10"},
                   {"1.", ".5", "00", "1e", "1e999", "+1", "NaN"}},
        SchemaCase{R"({"type":"integer","minimum":-5,"maximum":12})",
                   {"-5", "-1", "0", "9", "10", "12"},
                   {"-6", "13", "20", "-0", "-10", "01", "5.0"}},
        SchemaCase{R"({"type":"integer","exclusiveMinimum":9,"exclusiveMaximum":12})",
                   {"10", "11"},
                   {"9", "12", "1"}},
        SchemaCase{R"({"type":"integer","minimum":1.5,"maximum":4.5})", {"2", "4"}, {"1", "5"}},
        SchemaCase{R"({"type":"integer","minimum":9223372036854775807})",
                   {"9223372036854775807", "9999999999999999999"},
                   {"9223372036854775806", "10000000000000000000", "1"}},
        SchemaCase{R"({"type":"integer","maximum":-1000000})",
                   {"-1000000", "-999999999999999999"},
                   {"-999999", "0", "5"}},
        SchemaCase{R"({"type":"integer","minimum":1e3,"maximum":1e3})", {"1000"}, {"999", "1001"}},
        SchemaCase{R"({"type":"number","minimum":0,"maximum":1})",
                   {"0", "1", "0.5", "1.0", "0.0", "0.999"},
                   {"1.01", "-0.1", "2", "-0"}},
        SchemaCase{R"({"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1})",
                   {"0.5", "0.001", "0.10"},
                   {"0", "0.0", "1", "1.0"}},
        SchemaCase{R"({"type":"number","minimum":-1.25,"maximum":3.5})",
                   {"-1.25", "-1.2", "-1", "0", "3.5", "3.49", "3.50", "2.999", "-0.1", "-1.250"},
                   {"-1.26", "3.51", "-1.3", "-2", "4", "3.6"}},
        SchemaCase{R"({"type":"number","minimum":2.25,"maximum":2.5})",
                   {"2.25", "2.5", "2.3", "2.50", "2.259"},
                   {"2", "2.2", "2.24", "2.51", "2.6", "3"}},
        SchemaCase{R"({"type":"number","minimum":2,"exclusiveMaximum":2.05})",
                   {"2", "2.0", "2.04", "2.049"},
                   {"2.05", "2.1", "1.9"}},
        SchemaCase{R"({"minimum":5,"maximum":5})", {"5", "5.0"}, {"5.1", "\"a\"", "4"}},
        SchemaCase{R"({"type":"number","minimum":1e-7,"maximum":2e-7})",
                   {"0.0000001", "0.00000015"},
                   {"0", "0.00000009", "0.0000003"}},
        SchemaCase{R"({"enum":["a","b c",1,null,{"x":[1]},"q\"é"]})",
                   {"\"a\"", "\"b c\"", "1", "null", "{\"x\":[1]}", "\"q\\\"é\""},
                   {"\"b\"", "a", "2", "\"a"}},
        SchemaCase{R"({"type":"string","enum":["a",1]})", {"\"a\""}, {"1"}},
        SchemaCase{R"({"const":{"a":false}})", {"{\"a\":false}"}, {"{}", "{\"a\":true}"}},
        SchemaCase{"true", {"1", "\"x\"", "[1, {\"a\":[]}]", "{}"}, {"", "[1,]", "{\"a\"}"}},
        SchemaCase{R"({"title":"t","description":"d","default":1,"x-mine":2})", {"1", "null"}, {""}}));

INSTANTIATE_TEST_SUITE_P(
    Strings, SchemaMatches,
    testing::Values(
        SchemaCase{R"({"type":"string"})",
                   {R"("")", R"("é€😀")", R"("\"\\\/\b\f\n\r\t")", R"("\u00e9\uD83D\uDE00\u0000")"},
                   {"\"\n\"", "\"\t\"", R"("\x")", R"("\u12")", R"("\uD83D")", R"("\uDE00")",
                    R"("\uD83Dx")", "\"\xE2\x82\"", "\"\xC0\x80\"", "\"a", "\"a\"\""}},
        SchemaCase{R"({"type":"string","minLength":2,"maxLength":3})",
                   {R"("ab")", R"("é€😀")", R"("\n\u00e9")", R"("\uD83D\uDE00x")"},
                   {R"("a")", R"("abcd")", R"("\uD83D\uDE00")", R"("é")"}},
        SchemaCase{R"({"type":"string","minLength":300})",
                   {Letters(300), Letters(400)},
                   {Letters(299)}},
        SchemaCase{R"({"type":"string","maxLength":0})", {"\"\""}, {"\"a\""}},
        SchemaCase{R"({"type":"string","pattern":"^[a-z]+-\\d{2}$"})",
                   {R"("ab-12")"},
                   {R"("ab-1")", R"("xab-12 ")", "ab-12"}},
        SchemaCase{R"({"type":"string","pattern":"b+"})", {R"("b")", R"("abba")"}, {R"("a")"}},
        SchemaCase{R"({"pattern":"^a|b$"})", {R"("ax")", R"("xb")"}, {R"("xa")", R"("bx")"}},
        SchemaCase{R"({"pattern":"^[^x]\\n.$"})",
                   {R"("\"\n\\")", R"("\u0001\né")"},
                   {R"("x\n1")", "\"a\n1\""}},
        SchemaCase{R"({"type":"string","format":"date"})",
                   {R"("2024-02-29")", R"("2000-02-29")", R"("2023-12-31")"},
                   {R"("2023-02-29")", R"("1900-02-29")", R"("2024-13-01")", R"("2024-04-31")",
                    R"("0000-01-01")"}},
        SchemaCase{R"({"type":"string","format":"time"})",
                   {R"("23:59:59Z")", R"("00:00:00.25+05:30")"},
                   {R"("24:00:00Z")", R"("12:00")"}},
        SchemaCase{R"({"type":"string","format":"date-time"})",
                   {R"("2024-05-06T07:08:09Z")"},
                   {R"("2024-05-06 07:08:09Z")"}},
        SchemaCase{R"({"type":"string","format":"uuid"})",
                   {R"("123e4567-e89b-12d3-a456-426614174000")"},
                   {R"("123e4567e89b12d3a456426614174000")"}},
        SchemaCase{R"({"type":"string","format":"email"})",
                   {R"("a.b+c@example.com")"},
                   {R"("a@b")", R"("@example.com")", R"("a b@c.de")"}},
        SchemaCase{R"({"type":"string","format":"ipv4"})",
                   {R"("255.0.10.1")"},
                   {R"("256.0.0.1")", R"("1.2.3")", R"("01.2.3.4")"}},
        SchemaCase{R"({"type":"string","format":"unheard-of"})", {R"("x")"}, {"1"}}));

INSTANTIATE_TEST_SUITE_P(
    Arrays, SchemaMatches,
    testing::Values(
        SchemaCase{R"({"type":"array","items":{"type":"integer"}})",
                   {"[]", "[1]", "[1,2, 3]"},
                   {"[", "[1,]", "[,1]", "[\"a\"]", "[ 1]", "[1 ,2]", "[1,  2]", "[1,\n2]"}},
        SchemaCase{R"({"type":"array","items":{"const":1},"minItems":2,"maxItems":3})",
                   {"[1,1]", "[1,1,1]"},
                   {"[]", "[1]", "[1,1,1,1]"}},
        SchemaCase{R"({"items":{"const":1},"maxItems":1})", {"[]", "[1]"}, {"[1,1]"}},
        SchemaCase{R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"}},
        SchemaCase{R"({"type":"array"})", {"[]", "[1,\"a\",[null]]"}, {"{}", "[1 2]"}},
        SchemaCase{R"({"prefixItems":[{"const":1},{"const":2}]})",
                   {"[]", "[1]", "[1,2]"},
                   {"[2]", "[1,2,3]"}},
        SchemaCase{R"({"prefixItems":[{"const":1},{"const":2}],"minItems":2,"items":{"const":3}})",
                   {"[1,2]", "[1,2,3,3]"},
                   {"[1]", "[1,2,4]", "[]"}},
        SchemaCase{R"({"prefixItems":[{"const":1},{"const":2}],"items":{"const":3},"minItems":3,
                       "maxItems":4})",
                   {"[1,2,3]", "[1,2,3,3]"},
                   {"[1,2]", "[1,2,3,3,3]"}},
        SchemaCase{R"({"prefixItems":[{"const":1},{"const":2}],"maxItems":1})",
                   {"[]", "[1]"},
                   {"[1,2]"}},
        SchemaCase{R"({"items":false})", {"[]"}, {"[1]"}}));

INSTANTIATE_TEST_SUITE_P(
    Objects, SchemaMatches,
    testing::Values(
        SchemaCase{R"({"type":"object","properties":{"a":{"const":1},"b":{"const":2},"c":{"const":3}},
                       "required":["b"]})",
                   {R"({"b":2})", R"({"a":1,"b":2})", R"({"a": 1, "b": 2, "c": 3})",
                    R"({"b":2,"c":3})"},
                   {"{}", R"({"a":1})", R"({"b":2,"a":1})", R"({"b":2,})", R"({"b":2,"d":1})",
                    R"({"a":1"b":2})", R"({"c":3})", R"({,"b":2})"}},
        SchemaCase{R"({"properties":{"a":{"const":1},"b":{"const":2}}})",
                   {"{}", R"({"a":1})", R"({"b":2})", R"({"a":1,"b":2})"},
                   {R"({"a":1,})", R"({,})"}},
        SchemaCase{R"({"type":"object","additionalProperties":false})", {"{}"}, {R"({"a":1})"}},
        SchemaCase{R"({"type":"object"})", {"{}", R"({"a":[1],"b":{"c":null}})"}, {"[]"}},
        SchemaCase{R"({"type":"object","properties":{"ab":{"const":1}},"required":["ab"],
                       "additionalProperties":{"type":"boolean"}})",
                   {R"({"ab":1})", R"({"ab":1,"a":true,"abc":false,"":true,"é":true})"},
                   {R"({"a":true})", R"({"ab":1,"ab":true})", R"({"ab":1,"x":2})",
                    R"({"ab":1,"\u0061b":true})"}},
        SchemaCase{R"({"type":"object","properties":{"a":{"const":1}},"additionalProperties":true})",
                   {"{}", R"({"b":[2]})", R"({"a":1,"b":2})"},
                   {R"({"a":2})", R"({"b":1,"a":1})"}},
        SchemaCase{R"({"type":"object","required":["x"]})", {R"({"x":[1]})"}, {"{}"}},
        SchemaCase{R"({"type":"object","required":["x"],"additionalProperties":{"const":1}})",
                   {R"({"x":1})", R"({"x":1,"y":1})"},
                   {R"({"x":2})", R"({"y":1})"}},
        SchemaCase{R"({"properties":{"a\"\né":{"const":1}}})", {R"({"a\"\né":1})"}, {R"({"a":1})"}},
        SchemaCase{R"({"properties":{"a":false,"b":{"const":1}}})", {"{}", R"({"b":1})"},
                   {R"({"a":1})"}}));

INSTANTIATE_TEST_SUITE_P(
    Combinations, SchemaMatches,
    testing::Values(
        SchemaCase{R"({"anyOf":[{"type":"string"},{"type":"integer"}]})", {"\"a\"", "1"}, {"null"}},
        SchemaCase{R"({"oneOf":[{"properties":{"k":{"const":"a"},"v":{"type":"integer"}},
                                 "required":["k","v"]},
                                {"properties":{"k":{"const":"b"},"v":{"type":"boolean"}},
                                 "required":["k","v"]}]})",
                   {R"({"k":"a","v":1})", R"({"k":"b","v":true})"},
                   {R"({"k":"a","v":true})", R"({"k":"c"})"}},
        SchemaCase{R"({"type":"object","properties":{"a":{"const":1},"b":{"const":2}},
                       "anyOf":[{"required":["a"]},{"required":["b"]}]})",
                   {R"({"a":1})", R"({"b":2})", R"({"a":1,"b":2})"},
                   {"{}"}},
        SchemaCase{R"({"allOf":[{"properties":{"a":{"type":"integer"}},"required":["a"]},
                                {"properties":{"b":{"const":2},"a":{"minimum":5}},"required":["b"]}]})",
                   {R"({"a":5,"b":2})"},
                   {R"({"a":4,"b":2})", R"({"a":5})"}},
        SchemaCase{R"({"allOf":[{"type":"integer","minimum":1},{"maximum":3},{"minimum":2}]})",
                   {"2", "3"},
                   {"1", "4", "2.5"}},
        SchemaCase{R"({"allOf":[{"enum":[1,2,3]},{"enum":[2,3,4]}]})", {"2", "3"}, {"1", "4"}},
        SchemaCase{R"({"type":["integer","string"],"allOf":[{"type":["number","null"]}]})",
                   {"1"},
                   {"1.5", "null", "\"a\""}},
        SchemaCase{R"({"allOf":[{"properties":{"a":{"const":1}},"additionalProperties":false},
                                {"properties":{"b":{"const":1}}}]})",
                   {"{}", R"({"a":1})"},
                   {R"({"b":1})"}},
        SchemaCase{R"({"$ref":"#/$defs/t","$defs":{"t":{"type":"boolean"}}})", {"true"}, {"1"}},
        SchemaCase{R"({"$ref":"#/$defs/a~1b%20c","$defs":{"a/b c":{"const":1}}})", {"1"}, {"2"}},
        SchemaCase{R"({"$defs":{"n":{"type":"integer"}},"$ref":"#/$defs/n","minimum":5})",
                   {"5"},
                   {"4"}},
        SchemaCase{R"({"type":"object","properties":{"v":{"type":"integer"},"next":{"$ref":"#"}},
                       "required":["v"]})",
                   {R"({"v":1})", R"({"v":1,"next":{"v":2,"next":{"v":3}}})"},
                   {R"({"v":1,"next":{}})", R"({"v":1,"next":{"v":2})"}},
        SchemaCase{R"({"$defs":{"t":{"anyOf":[{"type":"integer"},{"type":"array","minItems":1,
                       "items":{"$ref":"#/$defs/t"}}]}},"$ref":"#/$defs/t"})",
                   {"1", "[1]", "[[1,[2]],3]"},
                   {"[]", "[[]]", "[1"}},
        SchemaCase{R"({"anyOf":[{"$ref":"#"},{"const":1}]})", {"1"}, {"2"}}));

struct RefusalCase {
  std::string schema;
  std::string says;
};

class SchemaRefusal : public testing::TestWithParam<RefusalCase> {};

TEST_P(SchemaRefusal, NamesThePlaceAndTheReason) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(Schema(GetParam().schema), vocabulary.vocabulary);
  ASSERT_FALSE(grammar.ok()) << GetParam().schema;
  EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(grammar.status().message());
  EXPECT_EQ(message.find("structured.json_schema"), 0U) << message;
  EXPECT_NE(message.find(GetParam().says), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(
    Forms, SchemaRefusal,
    testing::Values(
        RefusalCase{"", "is no JSON"}, RefusalCase{"{\"type\":", "is no JSON (at offset"},
        RefusalCase{"{\"a\":1e999}", "range of a double"},
        RefusalCase{"[]", "at #: expected a schema"}, RefusalCase{"\"string\"", "expected a schema"},
        RefusalCase{R"({"type":"strin"})", "at #/type: unknown type"},
        RefusalCase{R"({"type":5})", "at #/type: expected"},
        RefusalCase{R"({"properties":{"a/b":{"multipleOf":2}}})",
                    "at #/properties/a~1b: multipleOf is not supported"},
        RefusalCase{R"({"items":{"uniqueItems":true}})", "at #/items: uniqueItems"},
        RefusalCase{R"({"not":{}})", "not is not supported"},
        RefusalCase{R"({"if":{},"then":{}})", "is not supported"},
        RefusalCase{R"({"patternProperties":{}})", "patternProperties"},
        RefusalCase{R"({"minProperties":1})", "minProperties"},
        RefusalCase{R"({"items":[{}]})", "prefixItems"},
        RefusalCase{R"x({"pattern":"a(?=b)"})x", "at #/pattern: look-ahead"},
        RefusalCase{R"({"pattern":"a","minLength":3})", "minLength"},
        RefusalCase{R"({"minLength":-1})", "at #/minLength: expected a whole number"},
        RefusalCase{R"({"minLength":1.5})", "at #/minLength"},
        RefusalCase{R"({"maxItems":1000000000})", "at #/maxItems: is beyond"},
        RefusalCase{R"({"minimum":"1"})", "at #/minimum: expected a number"},
        RefusalCase{R"({"minimum":1e300})", "digits"},
        RefusalCase{R"({"type":"number","exclusiveMinimum":0.30000000000000004})", "15 digits"},
        RefusalCase{R"({"required":"a"})", "at #/required"},
        RefusalCase{R"({"properties":[]})", "at #/properties"},
        RefusalCase{R"({"anyOf":[]})", "at #/anyOf"}, RefusalCase{R"({"enum":1})", "at #/enum"},
        RefusalCase{R"({"enum":[1],"minimum":0})", "beside enum"},
        RefusalCase{R"({"$ref":"http://x/y"})", "$ref"},
        RefusalCase{R"({"$ref":"#/$defs/none"})", "names nothing"},
        RefusalCase{R"({"$ref":"#bad"})", "$ref"}, RefusalCase{R"({"$ref":"#/~2"})", "names nothing"},
        RefusalCase{R"({"$ref":1})", "at #/$ref: expected a string"},
        RefusalCase{R"({"allOf":[{"pattern":"a"},{"pattern":"b"}]})", "different pattern"},
        RefusalCase{R"({"allOf":[{"$ref":"#"}]})", "lead back to themselves"},
        RefusalCase{"false", "matches nothing"}, RefusalCase{R"({"enum":[]})", "matches nothing"},
        RefusalCase{R"({"$ref":"#"})", "matches nothing"},
        RefusalCase{R"({"type":"object","properties":{"n":{"$ref":"#"}},"required":["n"]})",
                    "matches nothing"},
        RefusalCase{R"({"type":"integer","minimum":5,"maximum":4})", "matches nothing"},
        RefusalCase{R"({"type":"string","minLength":5,"maxLength":4})", "matches nothing"},
        RefusalCase{R"({"type":"array","items":false,"minItems":1})", "matches nothing"},
        RefusalCase{R"({"type":"object","required":["a"],"additionalProperties":false})",
                    "matches nothing"}));

TEST(JsonObject, IsAnyObjectAndNothingElse) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(JsonObject(), vocabulary.vocabulary);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  for (const char* text : {"{}", R"({"a": 1, "b":[{"c":"d"}, null, -1.5e3], "": {}})"}) {
    EXPECT_TRUE(Matches(**grammar, vocabulary, text)) << text;
  }
  for (const char* text : {"", "[]", "1", "{", R"({"a"})", R"({"a":1,})", "{}{}", " {}", "{ }"}) {
    EXPECT_FALSE(Matches(**grammar, vocabulary, text)) << text;
  }
}

TEST(JsonObject, NestsToABoundAndCanAlwaysCloseAgain) {
  const TestVocabulary vocabulary;
  const auto grammar = CompiledGrammar::Compile(JsonObject(), vocabulary.vocabulary);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  const auto constraint = (*grammar)->Start();
  ASSERT_TRUE(AcceptBytes(*constraint, "{\"a\":"));
  int depth = 0;
  while (constraint->Accept('[')) ASSERT_LT(++depth, 1000);
  EXPECT_GE(depth, 60);
  for (int i = 0; i < depth; ++i) ASSERT_TRUE(constraint->Accept(']')) << i << " of " << depth;
  ASSERT_TRUE(constraint->Accept('}'));
  EXPECT_TRUE(constraint->Accept(vocabulary.tokenizer->stop_id()));
}

TEST(Structured, RefusesNothingAndAFalseObject) {
  const TestVocabulary vocabulary;
  EXPECT_FALSE(CompiledGrammar::Compile({}, vocabulary.vocabulary).ok());
  v1::StructuredOutput source;
  source.set_json_object(false);
  EXPECT_FALSE(CompiledGrammar::Compile(source, vocabulary.vocabulary).ok());
}

}  // namespace
}  // namespace tessera::coordinator
