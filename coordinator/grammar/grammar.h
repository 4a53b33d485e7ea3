// Structured output: a JSON schema, any JSON object, a regular expression or a list of choices →
// which tokens may come next.
//
// A source is compiled once per request into a byte-level automaton with a stack; the vocabulary is
// a trie of the tokens' bytes, built once per model; a mask is the trie walked with the automaton.
// Masks are kept per state, since a JSON string stays in one state for most of its life. Everything
// has a bound: bytes of source, nesting, states, operations while compiling and while masking.
//
// Vocabulary and CompiledGrammar are immutable but for caches behind locks: safe from any thread.
//
//   auto vocabulary = GrammarVocabulary::Create(tokenizer, stop_ids, vocab_size);
//   TESSERA_ASSIGN_OR_RETURN(auto grammar, CompiledGrammar::Compile(request.structured(), vocabulary));
//   std::unique_ptr<TokenConstraint> constraint = grammar->Start();
#ifndef TESSERA_COORDINATOR_GRAMMAR_GRAMMAR_H_
#define TESSERA_COORDINATOR_GRAMMAR_GRAMMAR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "coordinator/schedule/token_constraint.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

class GrammarVocabulary {
 public:
  virtual ~GrammarVocabulary() = default;
  // Control tokens and empty tokens are never allowed but for stop_ids, which end an output.
  // vocab_size: of the model, at least the tokenizer's (rows beyond it are never allowed).
  static std::shared_ptr<const GrammarVocabulary> Create(const Tokenizer& tokenizer,
                                                         absl::Span<const int32_t> stop_ids,
                                                         int vocab_size);
};

class CompiledGrammar : public std::enable_shared_from_this<CompiledGrammar> {
 public:
  virtual ~CompiledGrammar() = default;

  // INVALID_ARGUMENT naming structured.json_schema (and the JSON pointer within it), .json_object,
  // .regex (and the offset) or .choice[i]: what does not parse, what is unsupported, what has no
  // instance, what is beyond a bound. Within 50 ms whatever the source.
  static absl::StatusOr<std::shared_ptr<const CompiledGrammar>> Compile(
      const v1::StructuredOutput& source, std::shared_ptr<const GrammarVocabulary> vocabulary);

  virtual std::unique_ptr<TokenConstraint> Start() const = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GRAMMAR_GRAMMAR_H_
