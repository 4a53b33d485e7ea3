#include "coordinator/engine/model_grammar.h"

#include <utility>

#include "proto/base/status_macros.h"

namespace tessera::coordinator {

ModelGrammar::ModelGrammar(const Tokenizer* tokenizer, std::vector<int32_t> stop_ids,
                           int vocab_size)
    : tokenizer_(tokenizer), stop_ids_(std::move(stop_ids)), vocab_size_(vocab_size) {}

absl::StatusOr<std::shared_ptr<const TokenConstraint>> ModelGrammar::Compile(
    const v1::StructuredOutput& source) const {
  std::call_once(made_, [this] {
    vocabulary_ = GrammarVocabulary::Create(*tokenizer_, stop_ids_, vocab_size_);
  });
  TESSERA_ASSIGN_OR_RETURN(const std::shared_ptr<const CompiledGrammar> grammar,
                           CompiledGrammar::Compile(source, vocabulary_));
  return std::shared_ptr<const TokenConstraint>(grammar->Start());
}

}  // namespace tessera::coordinator
