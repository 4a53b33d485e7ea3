#include "coordinator/grammar/grammar.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/grammar/automaton_grammar.h"
#include "coordinator/grammar/json_rules.h"
#include "coordinator/grammar/json_schema.h"
#include "coordinator/grammar/limits.h"
#include "coordinator/grammar/regex.h"
#include "coordinator/grammar/token_trie.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {

using grammar::Automaton;
using grammar::AutomatonGrammar;
using grammar::AutomatonWithMasks;
using grammar::Rules;
using grammar::TokenTrie;

namespace {

std::string FieldOf(const v1::StructuredOutput& source) {
  switch (source.kind_case()) {
    case v1::StructuredOutput::kJsonSchema:
      return "structured.json_schema";
    case v1::StructuredOutput::kJsonObject:
      return "structured.json_object";
    case v1::StructuredOutput::kRegex:
      return "structured.regex";
    case v1::StructuredOutput::kChoice:
      return "structured.choice";
    case v1::StructuredOutput::KIND_NOT_SET:
      break;
  }
  return "structured";
}

absl::Status CheckSize(const v1::StructuredOutput& source) {
  const size_t bytes = source.ByteSizeLong();
  if (bytes <= grammar::kMaxSourceBytes) return absl::OkStatus();
  return wire::FieldError(FieldOf(source), absl::StrCat("is ", bytes, " bytes long; expected at most ",
                                                        grammar::kMaxSourceBytes));
}

absl::Status ReadChoices(const v1::StructuredOutput::Choices& choices, Rules& rules) {
  if (choices.values().empty()) return wire::FieldError("structured.choice", "is empty");
  if (choices.values_size() > grammar::kMaxChoices) {
    return wire::FieldError("structured.choice",
                            absl::StrCat("has ", choices.values_size(),
                                         " values; expected at most ", grammar::kMaxChoices));
  }
  for (int i = 0; i < choices.values_size(); ++i) {
    if (choices.values(i).empty()) {
      return wire::FieldError(absl::StrCat("structured.choice[", i, "]"), "is empty");
    }
  }
  rules.set_root(rules.Words({choices.values().begin(), choices.values().end()}));
  return absl::OkStatus();
}

absl::Status ReadRegex(const std::string& pattern, Rules& rules) {
  auto root = grammar::ParseRegex(pattern, {}, rules);
  if (!root.ok()) return wire::FieldError("structured.regex", root.status().message());
  rules.set_root(*root);
  return absl::OkStatus();
}

absl::Status ReadSchema(const std::string& schema, Rules& rules) {
  auto root = grammar::ParseJsonSchema(schema, rules);
  if (!root.ok()) return wire::FieldError("structured.json_schema", root.status().message());
  rules.set_root(*root);
  return absl::OkStatus();
}

absl::Status ReadObject(bool is_wanted, Rules& rules) {
  if (!is_wanted) return wire::FieldError("structured.json_object", "is false; expected true");
  rules.set_root(grammar::JsonRules(rules).AnyObject());
  return absl::OkStatus();
}

absl::Status ReadSource(const v1::StructuredOutput& source, Rules& rules) {
  switch (source.kind_case()) {
    case v1::StructuredOutput::kJsonSchema:
      return ReadSchema(source.json_schema(), rules);
    case v1::StructuredOutput::kJsonObject:
      return ReadObject(source.json_object(), rules);
    case v1::StructuredOutput::kRegex:
      return ReadRegex(source.regex(), rules);
    case v1::StructuredOutput::kChoice:
      return ReadChoices(source.choice(), rules);
    case v1::StructuredOutput::KIND_NOT_SET:
      break;
  }
  return wire::FieldError("structured",
                          "is empty; expected json_schema, json_object, regex or choice");
}

absl::StatusOr<Automaton> BuildFor(const v1::StructuredOutput& source, const Rules& rules,
                                   const TokenTrie& vocabulary) {
  auto automaton = grammar::BuildAutomaton(
      rules, {.usable_bytes = vocabulary.single_bytes(),
              .longest_token_bytes = vocabulary.longest_token_bytes()});
  if (automaton.ok()) return automaton;
  return wire::FieldError(FieldOf(source), automaton.status().message());
}

}  // namespace

std::shared_ptr<const GrammarVocabulary> GrammarVocabulary::Create(
    const Tokenizer& tokenizer, absl::Span<const int32_t> stop_ids, int vocab_size) {
  return std::make_shared<const TokenTrie>(tokenizer, stop_ids, vocab_size);
}

absl::StatusOr<std::shared_ptr<const CompiledGrammar>> CompiledGrammar::Compile(
    const v1::StructuredOutput& source, std::shared_ptr<const GrammarVocabulary> vocabulary) {
  auto trie = std::static_pointer_cast<const TokenTrie>(std::move(vocabulary));
  if (!trie->has_stop()) {
    return wire::FieldError("structured", "needs a stop token, and this model has none");
  }
  TESSERA_RETURN_IF_ERROR(CheckSize(source));
  std::string key = source.SerializeAsString();
  auto shared = trie->cache().Find(key);
  if (shared == nullptr) {
    Rules rules;
    TESSERA_RETURN_IF_ERROR(ReadSource(source, rules));
    TESSERA_ASSIGN_OR_RETURN(Automaton automaton, BuildFor(source, rules, *trie));
    shared = std::make_shared<AutomatonWithMasks>(std::move(automaton));
    trie->cache().Insert(std::move(key), shared);
  }
  return std::make_shared<const AutomatonGrammar>(std::move(shared), std::move(trie));
}

}  // namespace tessera::coordinator
