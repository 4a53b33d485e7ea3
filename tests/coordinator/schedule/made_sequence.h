// A request with one choice, as the scheduler keeps it, for tests of the scheduler's parts.
//
//   MadeRequest first(1, Prompt(1, 40));
//   table.Enqueue(first.sequence());
#ifndef TESSERA_TESTS_COORDINATOR_SCHEDULE_MADE_SEQUENCE_H_
#define TESSERA_TESTS_COORDINATOR_SCHEDULE_MADE_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "coordinator/schedule/sequence.h"
#include "coordinator/schedule/step_cost.h"

namespace tessera::testing {

// No two ids below a thousand share a first token.
inline std::vector<int32_t> Prompt(int32_t id, int tokens) {
  std::vector<int32_t> prompt(static_cast<size_t>(tokens), id);
  for (int i = 1; i < tokens; ++i) prompt[static_cast<size_t>(i)] = id + i * 1'000;
  return prompt;
}

class MadeRequest {
 public:
  MadeRequest(int64_t id, std::vector<int32_t> prompt, int tenant = 0, int32_t priority = 0)
      : state_(std::make_unique<coordinator::RequestState>()) {
    state_->request.id = id;
    state_->request.priority = priority;
    state_->request.max_tokens = 100;
    state_->prompt_tokens = static_cast<int>(prompt.size());
    state_->tenant = tenant;
    state_->salt = static_cast<uint64_t>(tenant) + 1;
    state_->choices.resize(1);
    coordinator::Sequence& sequence = state_->choices[0];
    sequence.id = id;
    sequence.request = state_.get();
    sequence.request_id = id;
    sequence.prompt_tokens = state_->prompt_tokens;
    sequence.max_tokens = state_->request.max_tokens;
    sequence.tenant = tenant;
    sequence.stateless_sampling = true;
    sequence.tokens = std::move(prompt);
  }

  // As after a step that computed all of its prompt and sampled a token.
  void Decodes() {
    sequence()->computed = sequence()->sent = sequence()->prompt_tokens;
    sequence()->tokens.push_back(7);
  }

  coordinator::RequestState* state() { return state_.get(); }
  coordinator::Sequence* sequence() { return &state_->choices[0]; }

 private:
  std::unique_ptr<coordinator::RequestState> state_;
};

// A group whose steps take 10 ms, 1 ms for each decode and 1 ms for each prompt token.
inline coordinator::StepCost LearnedCost() {
  coordinator::StepCost cost;
  for (int i = 0; i < 40; ++i) {
    cost.Observe({.decodes = 1 + i % 8}, 10'000 + 1'000 * (1 + i % 8));
    const int tokens = 10 + 7 * (i % 20);
    cost.Observe({.prefill_tokens = tokens, .attended = coordinator::Attended(tokens, 0)},
                 10'000 + 1'000 * tokens);
  }
  return cost;
}

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_COORDINATOR_SCHEDULE_MADE_SEQUENCE_H_
