// The one kind of CompiledGrammar: an automaton over bytes, a vocabulary, and the masks found so
// far. Immutable but for the masks; the constraints it starts share it.
#ifndef TESSERA_COORDINATOR_GRAMMAR_AUTOMATON_GRAMMAR_H_
#define TESSERA_COORDINATOR_GRAMMAR_AUTOMATON_GRAMMAR_H_

#include <memory>
#include <string>

#include "coordinator/grammar/automaton.h"
#include "coordinator/grammar/configurations.h"
#include "coordinator/grammar/grammar.h"
#include "coordinator/grammar/mask_cache.h"
#include "coordinator/grammar/token_trie.h"

namespace tessera::coordinator::grammar {

class AutomatonGrammar : public CompiledGrammar {
 public:
  AutomatonGrammar(Automaton automaton, std::shared_ptr<const TokenTrie> vocabulary);

  std::unique_ptr<TokenConstraint> Start() const override;

  const Automaton& automaton() const { return automaton_; }
  const TokenTrie& vocabulary() const { return *vocabulary_; }

  // The tokens allowed at a position, stop tokens where `is_complete`. Safe from any thread.
  std::shared_ptr<const std::string> Mask(const Position& position, bool is_complete) const;

 private:
  Position Representative(const Position& position) const;

  const Automaton automaton_;
  const std::shared_ptr<const TokenTrie> vocabulary_;
  mutable MaskCache masks_;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_AUTOMATON_GRAMMAR_H_
