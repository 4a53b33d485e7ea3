// Where an automaton may be after some bytes: configurations, each a state and a stack of states to
// return to, several when the grammar leaves open which part is being written. In order of
// discovery, which depends on nothing but the bytes since the start, so that every walk over the
// same bytes sees the same set, even one cut at kMaxConfigurations.
//
//   Stepper stepper(automaton);                    // one thread, cheap to make
//   ConfigurationSet set = stepper.Start();
//   set = stepper.Step(set, '{');
//   set.configurations.empty() && !set.is_complete  → the byte was not allowed
#ifndef TESSERA_COORDINATOR_GRAMMAR_CONFIGURATIONS_H_
#define TESSERA_COORDINATOR_GRAMMAR_CONFIGURATIONS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "coordinator/grammar/automaton.h"

namespace tessera::coordinator::grammar {

// A state that has byte edges, and a stack within a Stepper.
struct Configuration {
  StateId state = 0;
  uint32_t stack = 0;
  friend bool operator==(const Configuration&, const Configuration&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Configuration& c) {
    return H::combine(std::move(h), c.state, c.stack);
  }
};

struct ConfigurationSet {
  std::vector<Configuration> configurations;
  bool is_complete = false;  // the text may end here

  bool is_dead() const { return configurations.empty() && !is_complete; }
};

// A set on its own, without a Stepper: for each configuration its state, the number of its frames
// and the frames, the top last.
using Position = std::vector<uint32_t>;

class Stepper {
 public:
  // `automaton` must outlive the object.
  explicit Stepper(const Automaton& automaton);

  ConfigurationSet Start();
  ConfigurationSet Step(const ConfigurationSet& set, uint8_t byte);

  // Import leaves is_complete false.
  ConfigurationSet Import(const Position& position);
  Position Export(const ConfigurationSet& set) const;

  // What the calls since the last TakeWork cost, in edges looked at.
  int64_t TakeWork();

 private:
  struct Frame {
    StateId after = 0;
    uint32_t below = 0;
    uint32_t depth = 0;  // frames up to and with this one
  };

  uint32_t Push(uint32_t stack, StateId after);
  // Follows calls and returns from `state` to all that has byte edges.
  void Enter(Configuration configuration, ConfigurationSet& set);

  const Automaton& automaton_;
  std::vector<Frame> frames_;  // frame 0 is the empty stack
  absl::flat_hash_map<Configuration, uint32_t> frame_ids_;  // (after, below) → frame
  absl::flat_hash_set<Configuration> seen_;                 // in the step at hand
  std::vector<Configuration> todo_;
  int64_t work_ = 0;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_CONFIGURATIONS_H_
