// The one kind of CompiledGrammar: an automaton over bytes with the masks found so far, and the
// vocabulary they are of. Immutable but for the masks; the constraints it starts share it.
#ifndef TESSERA_COORDINATOR_GRAMMAR_AUTOMATON_GRAMMAR_H_
#define TESSERA_COORDINATOR_GRAMMAR_AUTOMATON_GRAMMAR_H_

#include <memory>
#include <string>
#include <utility>

#include "coordinator/grammar/automaton.h"
#include "coordinator/grammar/configurations.h"
#include "coordinator/grammar/grammar.h"
#include "coordinator/grammar/limits.h"
#include "coordinator/grammar/mask_cache.h"
#include "coordinator/grammar/token_trie.h"

namespace tessera::coordinator::grammar {

// What requests of the same source share. It names no vocabulary, since the vocabulary keeps it.
struct AutomatonWithMasks {
  explicit AutomatonWithMasks(Automaton a)
      : automaton(std::move(a)), masks(kMaxCachedMaskBytes) {}
  const Automaton automaton;
  MaskCache masks;
};

class AutomatonGrammar : public CompiledGrammar {
 public:
  AutomatonGrammar(std::shared_ptr<AutomatonWithMasks> shared,
                   std::shared_ptr<const TokenTrie> vocabulary)
      : shared_(std::move(shared)), vocabulary_(std::move(vocabulary)) {}

  std::unique_ptr<TokenConstraint> Start() const override;

  const Automaton& automaton() const { return shared_->automaton; }
  const TokenTrie& vocabulary() const { return *vocabulary_; }

  // The tokens allowed at a position, stop tokens where `is_complete`. Safe from any thread.
  std::shared_ptr<const std::string> Mask(const Position& position, bool is_complete) const;

 private:
  Position Representative(const Position& position) const;

  const std::shared_ptr<AutomatonWithMasks> shared_;
  const std::shared_ptr<const TokenTrie> vocabulary_;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_AUTOMATON_GRAMMAR_H_
