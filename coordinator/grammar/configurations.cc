#include "coordinator/grammar/configurations.h"

#include "coordinator/grammar/limits.h"

namespace tessera::coordinator::grammar {

Stepper::Stepper(const Automaton& automaton) : automaton_(automaton), frames_(1) {}

ConfigurationSet Stepper::Start() {
  ConfigurationSet set;
  seen_.clear();
  Enter({automaton_.start(), 0}, set);
  return set;
}

ConfigurationSet Stepper::Step(const ConfigurationSet& set, uint8_t byte) {
  ConfigurationSet next;
  seen_.clear();
  for (const Configuration& configuration : set.configurations) {
    for (const ByteEdge& edge : automaton_.edges(automaton_.state(configuration.state))) {
      ++work_;
      if (byte < edge.first) break;  // edges are in order of their first byte
      if (byte <= edge.last) Enter({edge.target, configuration.stack}, next);
    }
  }
  return next;
}

uint32_t Stepper::Push(uint32_t stack, StateId after) {
  const auto [frame, is_new] =
      frame_ids_.try_emplace({after, stack}, static_cast<uint32_t>(frames_.size()));
  if (is_new) frames_.push_back({after, stack, frames_[stack].depth + 1});
  return frame->second;
}

void Stepper::Enter(Configuration configuration, ConfigurationSet& set) {
  todo_.assign(1, configuration);
  while (!todo_.empty()) {
    const Configuration at = todo_.back();
    todo_.pop_back();
    const Automaton::State& state = automaton_.state(at.state);
    const uint32_t depth = frames_[at.stack].depth;
    // Whoever enters a state can finish from it within the stack's bound.
    if (depth + state.levels_needed > kMaxStackDepth) continue;
    if (!seen_.insert(at).second) continue;
    ++work_;
    if (state.edges_begin != state.edges_end &&
        set.configurations.size() < kMaxConfigurations) {
      set.configurations.push_back(at);
    }
    if (state.returns) {
      if (at.stack == 0) {
        set.is_complete = true;
      } else {
        todo_.push_back({frames_[at.stack].after, frames_[at.stack].below});
      }
    }
    for (const CallEdge& call : automaton_.calls(state)) {
      ++work_;
      if (call.after == kNoState) {
        todo_.push_back({call.start, at.stack});
      } else if (depth + 1 + automaton_.state(call.start).levels_needed <= kMaxStackDepth &&
                 depth + automaton_.state(call.after).levels_needed <= kMaxStackDepth) {
        todo_.push_back({call.start, Push(at.stack, call.after)});
      }
    }
  }
}

ConfigurationSet Stepper::Import(const Position& position) {
  ConfigurationSet set;
  for (size_t i = 0; i < position.size();) {
    const StateId state = position[i++];
    const uint32_t frame_count = position[i++];
    uint32_t stack = 0;
    for (uint32_t k = 0; k < frame_count; ++k) stack = Push(stack, position[i++]);
    set.configurations.push_back({state, stack});
  }
  return set;
}

Position Stepper::Export(const ConfigurationSet& set) const {
  Position position;
  for (const Configuration& configuration : set.configurations) {
    position.push_back(configuration.state);
    const uint32_t depth = frames_[configuration.stack].depth;
    position.push_back(depth);
    position.resize(position.size() + depth);
    auto frame = position.rbegin();
    for (uint32_t at = configuration.stack; at != 0; at = frames_[at].below) {
      *frame++ = frames_[at].after;
    }
  }
  return position;
}

int64_t Stepper::TakeWork() {
  const int64_t work = work_;
  work_ = 0;
  return work;
}

}  // namespace tessera::coordinator::grammar
