#include "coordinator/grammar/rules.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/grammar/limits.h"

namespace tessera::coordinator::grammar {
namespace {

constexpr int64_t kHeaviest = int64_t{1} << 40;

int64_t Product(int64_t a, int64_t b) {
  return b != 0 && a > kHeaviest / b ? kHeaviest : a * b;
}

}  // namespace

Rules::Rules() {
  Node empty;
  empty.nullable = true;
  empty_ = Add(std::move(empty));
  Node nothing;
  nothing.kind = NodeKind::kAlternatives;
  nothing_ = Add(std::move(nothing));
  root_ = nothing_;
}

NodeId Rules::Add(Node node) {
  if (!status_.ok()) return nothing_;
  for (const NodeId child : node.children) {
    node.depth = std::max(node.depth, nodes_[child].depth + 1);
  }
  if (node.depth > kMaxNodeDepth) {
    status_ = absl::ResourceExhaustedError("nests too deep once it is expanded");
    return nothing_;
  }
  const bool is_leaf = node.kind == NodeKind::kWords || node.kind == NodeKind::kCharacters;
  if (is_leaf) leaf_weight_ += node.weight;
  if (leaf_weight_ > kMaxLeafWeight) {
    status_ = absl::ResourceExhaustedError(
        absl::StrCat("becomes more than ", kMaxStates, " states"));
    return nothing_;
  }
  if (nodes_.size() >= static_cast<size_t>(kMaxNodes)) {
    status_ = absl::ResourceExhaustedError(
        absl::StrCat("becomes more than ", kMaxNodes, " parts once it is expanded"));
    return nothing_;
  }
  nodes_.push_back(std::move(node));
  return static_cast<NodeId>(nodes_.size() - 1);
}

NodeId Rules::Words(std::vector<std::string> words) {
  if (words.size() == 1 && words[0].empty()) return empty_;
  Node node;
  node.kind = NodeKind::kWords;
  node.weight = 1;
  for (const std::string& word : words) {
    node.weight += static_cast<int64_t>(word.size());
    node.nullable |= word.empty();
  }
  node.payload = static_cast<int>(words_.size());
  words_.push_back(std::move(words));
  return Add(std::move(node));
}

NodeId Rules::Characters(CharacterSet characters) {
  Node node;
  node.kind = NodeKind::kCharacters;
  const auto& ranges = characters.ranges();
  node.weight = ranges.empty() || ranges.back().last < 0x80 ? 1 : 8;
  node.payload = static_cast<int>(characters_.size());
  characters_.push_back(std::move(characters));
  return Add(std::move(node));
}

NodeId Rules::Concat(std::vector<NodeId> parts) {
  if (parts.size() == 1) return parts[0];
  Node node;
  node.nullable = true;
  for (const NodeId part : parts) {
    node.nullable &= nodes_[part].nullable;
    node.weight = std::min(kHeaviest, node.weight + nodes_[part].weight);
  }
  node.children = std::move(parts);
  return Add(std::move(node));
}

NodeId Rules::Alternatives(std::vector<NodeId> options) {
  if (options.size() == 1) return options[0];
  Node node;
  node.kind = NodeKind::kAlternatives;
  for (const NodeId option : options) {
    node.nullable |= nodes_[option].nullable;
    node.weight = std::min(kHeaviest, node.weight + nodes_[option].weight);
  }
  node.children = std::move(options);
  return Add(std::move(node));
}

NodeId Rules::Repeat(NodeId child, int64_t minimum, int64_t maximum) {
  if (maximum == 0 || child == empty_) return empty_;
  if (minimum == 1 && maximum == 1) return child;
  const Node& inner = nodes_[child];
  if (inner.kind == NodeKind::kRepeat && inner.minimum <= 1) {
    const bool endless = maximum == kNoMaximum || inner.maximum == kNoMaximum;
    const int64_t product = endless ? kNoMaximum : Product(inner.maximum, maximum);
    if (product < kHeaviest) return Repeat(inner.children[0], inner.minimum * minimum, product);
  }
  if (inner.nullable) minimum = 0;
  if (std::max(minimum, maximum) > kMaxRepeatCount) {
    if (status_.ok()) {
      status_ = absl::ResourceExhaustedError(
          absl::StrCat("repeats something more than ", kMaxRepeatCount, " times"));
    }
    return nothing_;
  }
  Node node;
  node.kind = NodeKind::kRepeat;
  node.nullable = minimum == 0;
  const int64_t copies = maximum == kNoMaximum ? std::max<int64_t>(minimum, 1) : maximum;
  const int64_t inlined = Product(inner.weight, copies);
  node.weight = inlined <= kMaxInlineWeight ? inlined : inner.weight + copies;
  node.minimum = minimum;
  node.maximum = maximum;
  node.children = {child};
  return Add(std::move(node));
}

NodeId Rules::Call(RuleId rule) {
  Node node;
  node.kind = NodeKind::kCall;
  node.rule = rule;
  return Add(std::move(node));
}

NodeId Rules::Members(MemberList members) {
  Node node;
  node.kind = NodeKind::kMembers;
  node.nullable = !members.needs_one;
  node.minimum = members.needs_one ? 1 : 0;
  node.weight = nodes_[members.extra].weight + 4;
  for (size_t i = 0; i < members.items.size(); ++i) {
    node.nullable &= !members.is_required[i];
    node.weight = std::min(kHeaviest, node.weight + nodes_[members.items[i]].weight + 4);
  }
  node.children = std::move(members.items);
  node.children.push_back(members.separator);
  node.children.push_back(members.extra);
  node.payload = static_cast<int>(flags_.size());
  flags_.push_back(std::move(members.is_required));
  return Add(std::move(node));
}

RuleId Rules::AddRule() {
  bodies_.push_back(nothing_);
  return static_cast<RuleId>(bodies_.size() - 1);
}

}  // namespace tessera::coordinator::grammar
