// The automaton while it is drawn: Thompson's construction, with empty moves. A node is drawn
// between two given states, only out of the first and only into the second, so that drawings which
// share an end never leak into each other.
#ifndef TESSERA_COORDINATOR_GRAMMAR_STATE_GRAPH_H_
#define TESSERA_COORDINATOR_GRAMMAR_STATE_GRAPH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/grammar/automaton.h"
#include "coordinator/grammar/rules.h"

namespace tessera::coordinator::grammar {

struct GraphState {
  std::vector<ByteEdge> edges;
  std::vector<CallEdge> calls;  // start is the rule's start state, after is never kNoState
  std::vector<StateId> empty_moves;
  bool returns = false;
  StateId representative = 0;
};

class StateGraph {
 public:
  // `rules` must outlive the object. longest_token_bytes: see AutomatonOptions.
  StateGraph(const Rules& rules, size_t longest_token_bytes);

  // Draws the root and all that it calls. RESOURCE_EXHAUSTED beyond the bounds of limits.h.
  absl::Status Draw();

  StateId start() const { return start_; }
  const std::vector<GraphState>& states() const { return states_; }

 private:
  StateId NewState();
  bool full() const { return !status_.ok(); }
  void AddEdge(StateId from, ByteEdge edge);
  void AddEmptyMove(StateId from, StateId to);

  void DrawNode(NodeId id, StateId from, StateId to);
  void DrawWords(const std::vector<std::string>& words, StateId from, StateId to);
  void DrawCharacters(const CharacterSet& characters, StateId from, StateId to);
  void DrawConcat(const Node& node, StateId from, StateId to);
  void DrawRepeat(const Node& node, StateId from, StateId to);
  void DrawMembers(const Node& node, StateId from, StateId to);
  void MarkAlike(const Node& node, const std::vector<StateId>& counts);

  StateId RuleStart(RuleId rule);
  // A rule of its own for a body that is repeated too often to be copied.
  StateId SharedStart(NodeId body);

  const Rules& rules_;
  const int64_t longest_token_bytes_;
  StateId start_ = 0;
  std::vector<GraphState> states_;
  int64_t edge_count_ = 0;
  std::vector<StateId> rule_starts_;    // kNoState until called
  std::vector<StateId> shared_starts_;  // by node
  struct Pending {
    NodeId body;
    StateId start;
  };
  std::vector<Pending> pending_;  // called, not yet drawn
  absl::Status status_;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_STATE_GRAPH_H_
