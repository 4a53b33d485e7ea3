#include "coordinator/grammar/mask_walk.h"

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "coordinator/grammar/limits.h"

namespace tessera::coordinator::grammar {
namespace {

constexpr int32_t kUnknown = -2;
constexpr int32_t kDead = -1;

// Sets of configurations numbered as they are met, with the moves between them found so far.
class LazyDfa {
 public:
  LazyDfa(const Automaton& automaton, const Position& position) : stepper_(automaton) {
    Number(stepper_.Import(position));
  }

  // kDead where the byte is not allowed. State 0 is the position.
  int32_t Step(int32_t state, uint8_t byte) {
    const int32_t known = states_[state]->next[byte];
    return known != kUnknown ? known : Explore(state, byte);
  }

  int64_t work() const { return work_; }

 private:
  struct State {
    explicit State(ConfigurationSet s) : set(std::move(s)) { next.fill(kUnknown); }
    ConfigurationSet set;
    std::array<int32_t, 256> next;
  };

  int32_t Explore(int32_t state, uint8_t byte) {
    ConfigurationSet set = stepper_.Step(states_[state]->set, byte);
    const int32_t next = set.is_dead() ? kDead : Number(std::move(set));
    states_[state]->next[byte] = next;
    work_ += stepper_.TakeWork();
    return next;
  }

  int32_t Number(ConfigurationSet set) {
    // The order of a set belongs to it, see configurations.h.
    const auto [number, is_new] =
        numbers_.try_emplace(set.configurations, static_cast<int32_t>(states_.size()));
    if (is_new) {
      work_ += 32;  // for its row
      states_.push_back(std::make_unique<State>(std::move(set)));
    }
    return number->second;
  }

  Stepper stepper_;
  std::vector<std::unique_ptr<State>> states_;
  absl::flat_hash_map<std::vector<Configuration>, int32_t> numbers_;
  int64_t work_ = 0;
};

void AllowAlike(const TokenTrie& trie, int32_t token, std::string& mask) {
  for (; token >= 0; token = trie.next_alike(token)) {
    mask[token / 8] = static_cast<char>(mask[token / 8] | (1 << (token % 8)));
  }
}

// Tokens of one byte: what is left when the walk was cut before it allowed any.
void AllowSingleBytes(LazyDfa& dfa, const TokenTrie& trie, std::string& mask) {
  const auto& nodes = trie.nodes();
  for (uint32_t i = 0; i < nodes.size(); i = nodes[i].skip) {
    if (nodes[i].token >= 0 && dfa.Step(0, nodes[i].byte) != kDead) {
      AllowAlike(trie, nodes[i].token, mask);
    }
  }
}

}  // namespace

std::string WalkMask(const Automaton& automaton, const TokenTrie& trie, const Position& position) {
  std::string mask(trie.stop_mask().size(), '\0');
  LazyDfa dfa(automaton, position);
  std::array<int32_t, kMaxTokenBytes + 1> state_at;  // after so many bytes of the path
  state_at[0] = 0;
  const auto& nodes = trie.nodes();
  int64_t visited = 0;
  for (uint32_t i = 0; i < nodes.size();) {
    const TokenTrie::Node& node = nodes[i];
    const int32_t state = dfa.Step(state_at[node.depth - 1], node.byte);
    if (state == kDead) {
      i = node.skip;
    } else {
      state_at[node.depth] = state;
      if (node.token >= 0) AllowAlike(trie, node.token, mask);
      ++i;
    }
    if (++visited + dfa.work() > kMaxMaskWork) {
      AllowSingleBytes(dfa, trie, mask);
      break;
    }
  }
  return mask;
}

}  // namespace tessera::coordinator::grammar
