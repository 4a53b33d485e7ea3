// The form that all sources compile to: rules whose bodies are small expressions over UTF-8 text.
// A rule may call any other, itself included; nothing else recurses. Built in one thread.
//
// Nodes are never changed once made, so one may stand in many places.
//
//   Rules rules;
//   NodeId digits = rules.Repeat(rules.Characters(CharacterSet::Of({{'0', '9'}})), 1, kNoMaximum);
//   rules.set_root(rules.Concat({rules.Literal("v"), digits}));
//   TESSERA_RETURN_IF_ERROR(rules.status());
#ifndef TESSERA_COORDINATOR_GRAMMAR_RULES_H_
#define TESSERA_COORDINATOR_GRAMMAR_RULES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/grammar/character_set.h"

namespace tessera::coordinator::grammar {

using NodeId = int32_t;
using RuleId = int32_t;

inline constexpr int64_t kNoMaximum = -1;

enum class NodeKind : uint8_t {
  kWords,         // one of `words`, each a byte string; none of them: matches nothing
  kCharacters,    // one character of `characters`
  kConcat,        // children in order; none: the empty text
  kAlternatives,  // one of the children; none: matches nothing
  kRepeat,        // children[0], minimum .. maximum times
  kCall,          // the rule `rule`
  kMembers,       // see Rules::Members
};

struct Node {
  NodeKind kind = NodeKind::kConcat;
  bool nullable = false;  // may match the empty text (a call counts as not)
  int depth = 1;          // of the expression below, calls not followed
  int64_t weight = 1;     // about how many states; saturates
  RuleId rule = -1;
  int64_t minimum = 0;
  int64_t maximum = 0;  // kNoMaximum, or at least minimum
  int payload = -1;     // index of the words, the characters or the members' flags
  std::vector<NodeId> children;
};

class Rules {
 public:
  Rules();

  NodeId Empty() { return empty_; }
  NodeId Nothing() { return nothing_; }
  NodeId Literal(std::string bytes) { return Words({std::move(bytes)}); }
  NodeId Words(std::vector<std::string> words);
  NodeId Characters(CharacterSet characters);
  NodeId Concat(std::vector<NodeId> parts);
  NodeId Alternatives(std::vector<NodeId> options);
  NodeId Optional(NodeId node) { return Repeat(node, 0, 1); }
  // Simplifies what would be ambiguous: (x?)* is x*, (x{1,3}){2,5} is x{2,15}.
  NodeId Repeat(NodeId node, int64_t minimum, int64_t maximum);
  NodeId Call(RuleId rule);

  // Of an object: the items in this order, those that are not required may be missing, with
  // `separator` between those that are there; then `extra` (or Nothing()) any number of times. Of an
  // array: no items, one extra at least if `needs_one`. Each node is drawn once, however deep lists
  // stand in lists.
  struct MemberList {
    std::vector<NodeId> items;
    std::vector<bool> is_required;  // one for each item
    NodeId separator = -1;
    NodeId extra = -1;
    bool needs_one = false;
  };
  NodeId Members(MemberList members);

  // A rule may be called before it has its body.
  RuleId AddRule();
  void SetBody(RuleId rule, NodeId body) { bodies_[rule] = body; }
  void set_root(NodeId root) { root_ = root; }

  // RESOURCE_EXHAUSTED once a bound of limits.h was passed; nodes made since match nothing.
  const absl::Status& status() const { return status_; }

  const Node& node(NodeId id) const { return nodes_[id]; }
  const std::vector<std::string>& words(const Node& node) const { return words_[node.payload]; }
  const CharacterSet& characters(const Node& node) const { return characters_[node.payload]; }
  const std::vector<bool>& is_required(const Node& node) const { return flags_[node.payload]; }
  NodeId root() const { return root_; }
  NodeId body(RuleId rule) const { return bodies_[rule]; }
  int rule_count() const { return static_cast<int>(bodies_.size()); }

 private:
  NodeId Add(Node node);

  std::vector<Node> nodes_;
  std::vector<std::vector<std::string>> words_;
  std::vector<CharacterSet> characters_;
  std::vector<std::vector<bool>> flags_;
  std::vector<NodeId> bodies_;
  int64_t leaf_weight_ = 0;
  NodeId empty_ = -1, nothing_ = -1, root_ = -1;
  absl::Status status_;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_RULES_H_
