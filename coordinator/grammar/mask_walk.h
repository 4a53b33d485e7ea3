// Which tokens may come next at a position: the vocabulary's trie walked with the automaton.
#ifndef TESSERA_COORDINATOR_GRAMMAR_MASK_WALK_H_
#define TESSERA_COORDINATOR_GRAMMAR_MASK_WALK_H_

#include <string>

#include "coordinator/grammar/automaton.h"
#include "coordinator/grammar/configurations.h"
#include "coordinator/grammar/token_trie.h"

namespace tessera::coordinator::grammar {

// As TokenConstraint::AllowedMask, without the stop tokens. Beyond kMaxMaskWork it ends early, with
// some of the tokens that it had not yet come to left out; it always allows one where a byte may
// come next, and depends on nothing but its arguments.
std::string WalkMask(const Automaton& automaton, const TokenTrie& trie, const Position& position);

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_MASK_WALK_H_
