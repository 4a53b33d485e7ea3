#include "tests/coordinator/grammar/test_vocabulary.h"

namespace tessera::coordinator {

std::vector<std::string> BytesAndPieces() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* piece :
       {"{\"",  "\":",  "\": ", "\",",   "\", ", "\"}",  "\"]",  "}}",    "]]",   "]}",  "},",
        "},{",  "[[",   "[{",   "[\"",   ": {",  ": [",  ", ",   "{}",    "[]",   "()",  "true",
        "false", "null", "tru", " true", "12",   "123",  "2024", "-1",    "0.",   "e+",  "e1",
        "00",   "\\n",  "\\\"", "\\u",   "\\u00", "name", "na",  "me\":", "age",  "the", " the",
        "  ",   "\n",   "\n\n", "\t\t",  "é",    "€",    "\xE2\x82", "\xAC\"", "😀", "\xF0\x9F",
        "aaaa", "abc",  "ab",   "yes",   "no",   "yesno", "foo", "foobar", "a\",\"b", "\"\"", "D8",
        "\\ud83d", "\\ude00", "-", "--", "T1", "Z\"", "@", ".com", "1.5", "]", "\"\":"}) {
    tokens.emplace_back(piece);
  }
  return tokens;
}

v1::StructuredOutput Regex(const std::string& pattern) {
  v1::StructuredOutput source;
  source.set_regex(pattern);
  return source;
}

v1::StructuredOutput Choice(const std::vector<std::string>& values) {
  v1::StructuredOutput source;
  source.mutable_choice();
  for (const std::string& value : values) source.mutable_choice()->add_values(value);
  return source;
}

v1::StructuredOutput Schema(const std::string& schema) {
  v1::StructuredOutput source;
  source.set_json_schema(schema);
  return source;
}

v1::StructuredOutput JsonObject() {
  v1::StructuredOutput source;
  source.set_json_object(true);
  return source;
}

bool Allows(const std::string& mask, int32_t token) {
  return (static_cast<uint8_t>(mask[token / 8]) >> (token % 8) & 1) != 0;
}

bool AcceptBytes(TokenConstraint& constraint, const std::string& text) {
  for (const char byte : text) {
    if (!constraint.Accept(static_cast<uint8_t>(byte))) return false;
  }
  return true;
}

bool Matches(const CompiledGrammar& grammar, const TestVocabulary& vocabulary,
             const std::string& text) {
  const auto constraint = grammar.Start();
  return AcceptBytes(*constraint, text) && constraint->Accept(vocabulary.tokenizer->stop_id());
}

bool MatchesPrefix(const CompiledGrammar& grammar, const std::string& text) {
  return AcceptBytes(*grammar.Start(), text);
}

}  // namespace tessera::coordinator
