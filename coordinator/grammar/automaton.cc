#include "coordinator/grammar/automaton.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/grammar/limits.h"
#include "coordinator/grammar/state_graph.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator::grammar {
namespace {

constexpr int64_t kMaxClosureWork = 500'000;
constexpr uint8_t kNeverEnds = 255;

// Sources by target, as chains through one array.
class ReverseIndex {
 public:
  explicit ReverseIndex(size_t target_count) : heads_(target_count, -1) {}

  void Add(uint32_t target, uint32_t value) {
    links_.push_back({value, heads_[target]});
    heads_[target] = static_cast<int64_t>(links_.size()) - 1;
  }

  template <typename Visit>
  void ForEach(uint32_t target, Visit visit) const {
    for (int64_t i = heads_[target]; i >= 0; i = links_[i].next) visit(links_[i].value);
  }

 private:
  struct Link {
    uint32_t value;
    int64_t next;
  };
  std::vector<int64_t> heads_;
  std::vector<Link> links_;
};

}  // namespace

// From the graph with empty moves to the automaton without them and without dead ends.
class AutomatonTrimmer {
 public:
  AutomatonTrimmer(const StateGraph& graph, const std::bitset<256>& usable_bytes)
      : graph_(graph), numbers_(graph.states().size(), kNoState) {
    // How many usable bytes lie below each byte: tells in one step whether a range has any.
    for (int byte = 0; byte < 256; ++byte) {
      usable_below_[byte + 1] = usable_below_[byte] + (usable_bytes[byte] ? 1 : 0);
    }
  }

  absl::StatusOr<Automaton> Run() {
    TESSERA_RETURN_IF_ERROR(Close());
    MarkTailCalls();
    FindLevelsNeeded();
    if (levels_[0] == kNeverEnds) return absl::FailedPreconditionError("matches nothing");
    return Emit();
  }

 private:
  struct Closed {
    std::vector<ByteEdge> edges;
    std::vector<CallEdge> calls;
    bool returns = false;
    StateId representative = 0;
  };

  // The new number of a state of the graph, in order of first use.
  StateId Number(StateId in_graph) {
    if (numbers_[in_graph] == kNoState) {
      numbers_[in_graph] = static_cast<StateId>(order_.size());
      order_.push_back(in_graph);
    }
    return numbers_[in_graph];
  }

  // What each state can do through empty moves. RESOURCE_EXHAUSTED when that is too much.
  absl::Status Close() {
    std::vector<StateId> seen_by(graph_.states().size(), kNoState);
    std::vector<StateId> stack;
    int64_t work = 0, edge_count = 0;
    Number(graph_.start());
    for (StateId id = 0; id < order_.size(); ++id) {
      Closed closed;
      closed.representative = Number(graph_.states()[order_[id]].representative);
      stack.assign(1, order_[id]);
      seen_by[order_[id]] = id;
      while (!stack.empty()) {
        const GraphState& state = graph_.states()[stack.back()];
        stack.pop_back();
        closed.returns |= state.returns;
        for (const ByteEdge& edge : state.edges) {
          closed.edges.push_back({edge.first, edge.last, Number(edge.target)});
        }
        for (const CallEdge& call : state.calls) {
          const StateId start = Number(call.start);
          closed.calls.push_back({start, Number(call.after)});
        }
        for (const StateId next : state.empty_moves) {
          if (seen_by[next] == id) continue;
          seen_by[next] = id;
          stack.push_back(next);
        }
        if (++work > kMaxClosureWork) {
          return absl::ResourceExhaustedError("has too many parts that may be left out");
        }
      }
      SortUnique(closed.edges);
      SortUnique(closed.calls);
      edge_count += static_cast<int64_t>(closed.edges.size() + closed.calls.size());
      if (edge_count > kMaxEdges) {
        return absl::ResourceExhaustedError(
            absl::StrCat("becomes more than ", kMaxEdges, " edges"));
      }
      closed_.push_back(std::move(closed));
    }
    return absl::OkStatus();
  }

  template <typename Edge>
  static void SortUnique(std::vector<Edge>& edges) {
    std::sort(edges.begin(), edges.end());
    edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  }

  // A call after which the caller only returns need not come back to it: without this, a rule
  // that begins by calling itself would push for ever.
  void MarkTailCalls() {
    for (Closed& state : closed_) {
      for (CallEdge& call : state.calls) {
        const Closed& after = closed_[call.after];
        if (after.returns && after.edges.empty() && after.calls.empty()) call.after = kNoState;
      }
    }
  }

  // levels_[s]: the least stack in which s can finish, by Knuth's generalization of Dijkstra's
  // algorithm: the cost of a path is the largest cost on it, a call costs one level more.
  void FindLevelsNeeded() {
    levels_.assign(closed_.size(), kNeverEnds);
    struct Call {
      StateId from;
      CallEdge edge;
    };
    std::vector<Call> calls;
    ReverseIndex edges_into(closed_.size()), calls_of(closed_.size());
    std::vector<std::vector<StateId>> waiting(kMaxStackDepth + 1);  // by level
    for (StateId id = 0; id < closed_.size(); ++id) {
      if (closed_[id].returns) waiting[0].push_back(id);
      for (const ByteEdge& edge : closed_[id].edges) {
        if (HasUsableByte(edge)) edges_into.Add(edge.target, id);
      }
      for (const CallEdge& edge : closed_[id].calls) {
        const auto index = static_cast<uint32_t>(calls.size());
        calls.push_back({id, edge});
        calls_of.Add(edge.start, index);
        if (edge.after != kNoState) calls_of.Add(edge.after, index);
      }
    }
    for (int level = 0; level <= kMaxStackDepth; ++level) {
      while (!waiting[level].empty()) {
        const StateId id = waiting[level].back();
        waiting[level].pop_back();
        if (levels_[id] != kNeverEnds) continue;
        levels_[id] = static_cast<uint8_t>(level);
        edges_into.ForEach(id, [&](StateId from) { waiting[level].push_back(from); });
        calls_of.ForEach(id, [&](uint32_t index) {
          const int needed = LevelsOfCall(calls[index].edge);
          if (needed <= kMaxStackDepth) {
            waiting[std::max(needed, level)].push_back(calls[index].from);
          }
        });
      }
    }
  }

  bool HasUsableByte(const ByteEdge& edge) const {
    return usable_below_[edge.last + 1] > usable_below_[edge.first];
  }

  // kNeverEnds when that is not known, or not so.
  int LevelsOfCall(const CallEdge& call) const {
    const int inside = levels_[call.start];
    if (call.after == kNoState) return inside;
    const int behind = levels_[call.after];
    if (inside == kNeverEnds || behind == kNeverEnds) return kNeverEnds;
    return std::max(inside + 1, behind);
  }

  Automaton Emit() const {
    Automaton automaton;
    automaton.start_ = 0;
    for (StateId id = 0; id < closed_.size(); ++id) {
      Automaton::State state;
      state.returns = closed_[id].returns;
      state.levels_needed = levels_[id];
      state.representative = closed_[id].representative;
      state.edges_begin = static_cast<uint32_t>(automaton.edges_.size());
      for (const ByteEdge& edge : closed_[id].edges) {
        if (levels_[edge.target] != kNeverEnds) automaton.edges_.push_back(edge);
      }
      state.edges_end = static_cast<uint32_t>(automaton.edges_.size());
      state.calls_begin = static_cast<uint32_t>(automaton.calls_.size());
      for (const CallEdge& call : closed_[id].calls) {
        if (LevelsOfCall(call) != kNeverEnds) automaton.calls_.push_back(call);
      }
      state.calls_end = static_cast<uint32_t>(automaton.calls_.size());
      automaton.states_.push_back(state);
    }
    return automaton;
  }

  const StateGraph& graph_;
  int usable_below_[257] = {};
  std::vector<StateId> numbers_;  // by state of the graph
  std::vector<StateId> order_;    // the state of the graph, by number
  std::vector<Closed> closed_;    // by number
  std::vector<uint8_t> levels_;   // by number
};

absl::StatusOr<Automaton> BuildAutomaton(const Rules& rules, const AutomatonOptions& options) {
  TESSERA_RETURN_IF_ERROR(rules.status());
  StateGraph graph(rules, options.longest_token_bytes);
  TESSERA_RETURN_IF_ERROR(graph.Draw());
  auto automaton = AutomatonTrimmer(graph, options.usable_bytes).Run();
  if (!absl::IsFailedPrecondition(automaton.status()) || options.usable_bytes.all()) {
    return automaton;
  }
  if (AutomatonTrimmer(graph, std::bitset<256>().set()).Run().ok()) {
    return absl::FailedPreconditionError("needs bytes that this model's vocabulary cannot write");
  }
  return automaton;
}

}  // namespace tessera::coordinator::grammar
