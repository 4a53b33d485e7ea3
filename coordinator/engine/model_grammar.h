// The served model's vocabulary as grammars see it, made when the first structured output asks for
// it: most servers never need it. Safe from any thread.
//
//   TESSERA_ASSIGN_OR_RETURN(auto constraint, model.grammar->Compile(sampling.structured()));
#ifndef TESSERA_COORDINATOR_ENGINE_MODEL_GRAMMAR_H_
#define TESSERA_COORDINATOR_ENGINE_MODEL_GRAMMAR_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/grammar/grammar.h"
#include "coordinator/schedule/token_constraint.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

class ModelGrammar {
 public:
  // The tokenizer must outlive it.
  ModelGrammar(const Tokenizer* tokenizer, std::vector<int32_t> stop_ids, int vocab_size);

  // As CompiledGrammar::Compile. The first call takes longer.
  absl::StatusOr<std::shared_ptr<const TokenConstraint>> Compile(
      const v1::StructuredOutput& source) const;

 private:
  const Tokenizer* const tokenizer_;
  const std::vector<int32_t> stop_ids_;
  const int vocab_size_;
  mutable std::once_flag made_;
  mutable std::shared_ptr<const GrammarVocabulary> vocabulary_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_MODEL_GRAMMAR_H_
