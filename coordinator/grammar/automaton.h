// Rules compiled for matching bytes: states with byte edges, calls and returns. A call pushes the
// state to go on with, a return pops it. There are no empty moves and no dead ends: every edge
// leads to where some text of bytes the vocabulary has can finish within the stack's bound.
//
// Immutable once built; shared by all requests of the grammar.
//
//   TESSERA_ASSIGN_OR_RETURN(Automaton automaton, BuildAutomaton(rules, {.usable_bytes = bytes}));
#ifndef TESSERA_COORDINATOR_GRAMMAR_AUTOMATON_H_
#define TESSERA_COORDINATOR_GRAMMAR_AUTOMATON_H_

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "coordinator/grammar/rules.h"

namespace tessera::coordinator::grammar {

using StateId = uint32_t;

inline constexpr StateId kNoState = ~StateId{0};  // as a call's return state: the caller's own

struct ByteEdge {
  uint8_t first = 0;
  uint8_t last = 0;  // inclusive
  StateId target = 0;
  friend auto operator<=>(const ByteEdge&, const ByteEdge&) = default;
};

struct CallEdge {
  StateId start = 0;       // of the rule called
  StateId after = kNoState;  // pushed
  friend auto operator<=>(const CallEdge&, const CallEdge&) = default;
};

class Automaton {
 public:
  struct State {
    uint32_t edges_begin = 0, edges_end = 0;
    uint32_t calls_begin = 0, calls_end = 0;
    bool returns = false;  // the rule may end here
    // Levels of stack that a shortest way from here to the rule's end needs.
    uint8_t levels_needed = 0;
    // Stands for this state when a mask is looked up: states of a long count that look alike for
    // as long as a token can be.
    StateId representative = 0;
  };

  StateId start() const { return start_; }
  size_t size() const { return states_.size(); }
  const State& state(StateId id) const { return states_[id]; }
  absl::Span<const ByteEdge> edges(const State& state) const {
    return absl::MakeConstSpan(edges_.data() + state.edges_begin, edges_.data() + state.edges_end);
  }
  absl::Span<const CallEdge> calls(const State& state) const {
    return absl::MakeConstSpan(calls_.data() + state.calls_begin, calls_.data() + state.calls_end);
  }

 private:
  friend class AutomatonTrimmer;

  StateId start_ = 0;
  std::vector<State> states_;
  std::vector<ByteEdge> edges_;
  std::vector<CallEdge> calls_;
};

struct AutomatonOptions {
  std::bitset<256> usable_bytes;    // those the vocabulary has as tokens of their own
  size_t longest_token_bytes = 1;   // how far one mask looks ahead
};

// RESOURCE_EXHAUSTED beyond the bounds of limits.h; FAILED_PRECONDITION when nothing matches.
absl::StatusOr<Automaton> BuildAutomaton(const Rules& rules, const AutomatonOptions& options);

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_AUTOMATON_H_
