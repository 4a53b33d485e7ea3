#include "coordinator/grammar/state_graph.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/grammar/limits.h"

namespace tessera::coordinator::grammar {

StateGraph::StateGraph(const Rules& rules, size_t longest_token_bytes)
    : rules_(rules),
      longest_token_bytes_(static_cast<int64_t>(longest_token_bytes)),
      rule_starts_(rules.rule_count(), kNoState) {}

absl::Status StateGraph::Draw() {
  start_ = SharedStart(rules_.root());
  while (!pending_.empty() && !full()) {
    const Pending next = pending_.back();
    pending_.pop_back();
    const StateId end = NewState();
    if (full()) break;
    states_[end].returns = true;
    DrawNode(next.body, next.start, end);
  }
  return status_;
}

StateId StateGraph::NewState() {
  if (states_.size() >= static_cast<size_t>(kMaxStates)) {
    if (status_.ok()) {
      status_ = absl::ResourceExhaustedError(
          absl::StrCat("becomes more than ", kMaxStates, " states"));
    }
    return 0;
  }
  const StateId id = static_cast<StateId>(states_.size());
  states_.emplace_back();
  states_.back().representative = id;
  return id;
}

void StateGraph::AddEdge(StateId from, ByteEdge edge) {
  if (full()) return;
  if (++edge_count_ > kMaxEdges) {
    status_ = absl::ResourceExhaustedError(absl::StrCat("becomes more than ", kMaxEdges, " edges"));
    return;
  }
  states_[from].edges.push_back(edge);
}

void StateGraph::AddEmptyMove(StateId from, StateId to) {
  if (!full() && from != to) states_[from].empty_moves.push_back(to);
}

void StateGraph::DrawNode(NodeId id, StateId from, StateId to) {
  if (full()) return;
  const Node& node = rules_.node(id);
  switch (node.kind) {
    case NodeKind::kWords:
      return DrawWords(rules_.words(node), from, to);
    case NodeKind::kCharacters:
      return DrawCharacters(rules_.characters(node), from, to);
    case NodeKind::kConcat:
      return DrawConcat(node, from, to);
    case NodeKind::kAlternatives:
      for (const NodeId child : node.children) DrawNode(child, from, to);
      return;
    case NodeKind::kRepeat:
      return DrawRepeat(node, from, to);
    case NodeKind::kCall: {
      const StateId start = RuleStart(node.rule);
      states_[from].calls.push_back({start, to});
      return;
    }
    case NodeKind::kMembers:
      return DrawMembers(node, from, to);
  }
}

// As a trie, so that words with a common beginning stay one state for as long as they share it.
void StateGraph::DrawWords(const std::vector<std::string>& words, StateId from, StateId to) {
  std::map<std::pair<StateId, uint8_t>, StateId> trie;
  for (const std::string& word : words) {
    if (word.empty()) {
      AddEmptyMove(from, to);
      continue;
    }
    StateId at = from;
    for (size_t i = 0; i + 1 < word.size() && !full(); ++i) {
      const auto byte = static_cast<uint8_t>(word[i]);
      const auto [edge, is_new] = trie.try_emplace({at, byte}, kNoState);
      if (is_new) {
        edge->second = NewState();
        AddEdge(at, {byte, byte, edge->second});
      }
      at = edge->second;
    }
    const auto last = static_cast<uint8_t>(word.back());
    AddEdge(at, {last, last, to});
  }
}

void StateGraph::DrawCharacters(const CharacterSet& characters, StateId from, StateId to) {
  // What follows a first byte is shared by all characters that end alike.
  std::map<std::tuple<uint8_t, uint8_t, StateId>, StateId> tails;
  for (const Utf8Sequence& sequence : characters.Utf8Sequences()) {
    StateId next = to;
    for (int i = sequence.length - 1; i > 0; --i) {
      const ByteRange range = sequence.ranges[i];
      const auto [tail, is_new] = tails.try_emplace({range.first, range.last, next}, kNoState);
      if (is_new) {
        tail->second = NewState();
        AddEdge(tail->second, {range.first, range.last, next});
      }
      next = tail->second;
    }
    AddEdge(from, {sequence.ranges[0].first, sequence.ranges[0].last, next});
    if (full()) return;
  }
}

void StateGraph::DrawConcat(const Node& node, StateId from, StateId to) {
  if (node.children.empty()) return AddEmptyMove(from, to);
  StateId at = from;
  for (size_t i = 0; i < node.children.size() && !full(); ++i) {
    const StateId next = i + 1 == node.children.size() ? to : NewState();
    DrawNode(node.children[i], at, next);
    at = next;
  }
}

void StateGraph::DrawRepeat(const Node& node, StateId from, StateId to) {
  const NodeId body = node.children[0];
  const bool endless = node.maximum == kNoMaximum;
  const int64_t copies = endless ? std::max<int64_t>(node.minimum, 1) : node.maximum;
  const bool is_called = copies > 1 && rules_.node(body).weight * copies > kMaxInlineWeight;

  std::vector<StateId> counts;  // counts[k]: k copies are done
  counts.push_back(NewState());
  AddEmptyMove(from, counts[0]);
  for (int64_t done = 0; done < copies && !full(); ++done) {
    if (done >= node.minimum) AddEmptyMove(counts.back(), to);
    const StateId next = NewState();
    if (is_called) {
      const StateId shared = SharedStart(body);
      states_[counts.back()].calls.push_back({shared, next});
    } else {
      DrawNode(body, counts.back(), next);
    }
    counts.push_back(next);
  }
  if (full()) return;
  AddEmptyMove(counts.back(), to);
  if (endless) AddEmptyMove(counts.back(), counts[counts.size() - 2]);  // the last copy once more
  if (is_called && !rules_.node(body).nullable) MarkAlike(node, counts);
}

// A copy takes a byte at least. So counts from which no token reaches the minimum, or the maximum,
// allow the same tokens as the first of them.
void StateGraph::MarkAlike(const Node& node, const std::vector<StateId>& counts) {
  const auto size = static_cast<int64_t>(counts.size());
  for (int64_t k = 0; k < size; ++k) {
    const bool is_far_below = k + longest_token_bytes_ + 1 < node.minimum;
    const bool is_far_inside = node.maximum != kNoMaximum && k >= node.minimum &&
                               k + longest_token_bytes_ + 1 < node.maximum;
    if (is_far_below) states_[counts[k]].representative = counts[0];
    // counts[minimum] itself is entered from below, but what follows it is the same.
    if (is_far_inside) states_[counts[k]].representative = counts[node.minimum];
  }
}

// after[i]: items before i are dealt with and one at least is there. want[i]: something must come,
// from item i on.
void StateGraph::DrawMembers(const Node& node, StateId from, StateId to) {
  const std::vector<bool>& is_required = rules_.is_required(node);
  const size_t count = is_required.size();
  const NodeId separator = node.children[count];
  const NodeId extra = node.children[count + 1];
  std::vector<StateId> want, after;
  for (size_t i = 0; i <= count; ++i) {
    want.push_back(NewState());
    after.push_back(NewState());
  }
  if (full()) return;
  bool may_end = true;  // nothing that is required is left
  for (size_t i = count + 1; i-- > 0;) {
    if (i == count) {
      DrawNode(extra, want[i], after[i]);
    } else {
      DrawNode(node.children[i], want[i], after[i + 1]);
      may_end &= !is_required[i];
      if (!is_required[i]) AddEmptyMove(want[i], want[i + 1]);
    }
    DrawNode(separator, after[i], want[i]);
    if (may_end) AddEmptyMove(after[i], to);
  }
  AddEmptyMove(from, want[0]);
  if (may_end && node.minimum == 0) AddEmptyMove(from, to);
}

StateId StateGraph::RuleStart(RuleId rule) {
  if (rule_starts_[rule] == kNoState) rule_starts_[rule] = SharedStart(rules_.body(rule));
  return rule_starts_[rule];
}

StateId StateGraph::SharedStart(NodeId body) {
  if (shared_starts_.size() <= static_cast<size_t>(body)) {
    shared_starts_.resize(body + 1, kNoState);
  }
  if (shared_starts_[body] == kNoState) {
    shared_starts_[body] = NewState();
    pending_.push_back({body, shared_starts_[body]});
  }
  return shared_starts_[body];
}

}  // namespace tessera::coordinator::grammar
