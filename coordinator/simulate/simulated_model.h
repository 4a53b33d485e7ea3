// A model without weights: the next token is a hash of all tokens before it and of the seed, so
// that whoever has the prompt can say what the answer must be.
//
// Honours LogitsState (masks and banned ids), the seed (with a temperature) and targets. Penalties
// and biases change nothing. Pure; any thread.
//
//   SimulatedModel model;
//   EXPECT_EQ(ids, model.Continue(prompt_ids, sampling, 5));
#ifndef TESSERA_COORDINATOR_SIMULATE_SIMULATED_MODEL_H_
#define TESSERA_COORDINATOR_SIMULATE_SIMULATED_MODEL_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/model.pb.h"

namespace tessera::testing {

struct SimulatedModel {
  int vocab_size = 259;
  int32_t eos_id = 256;
  int eos_one_in = 0;  // a draw in so many is eos_id; 0: never

  // The state of a sequence: 0 before its first token.
  static uint64_t Extend(uint64_t state, int32_t token);

  // The token after a sequence in `state`: lower-case letters and spaces, as far as they are
  // allowed. `draw` may be null. False when nothing is allowed.
  bool Draw(uint64_t state, const v1::SamplingParams& sampling, const v1::LogitsState* draw,
            v1::SampledToken* token) const;

  // What the model thinks of `target` after a sequence in `state`.
  v1::PromptLogprob Score(uint64_t state, int32_t target, int num_top) const;

  // What a sequence that begins with `prompt` goes on with.
  std::vector<int32_t> Continue(absl::Span<const int32_t> prompt,
                                const v1::SamplingParams& sampling, int count) const;
};

// A small model with 32 positions per KV kilobyte, a byte-level tokenizer and a chat template. Its
// vocabulary and end of sequence are those of SimulatedModel{}.
v1::ModelDescription SimulatedDescription(int max_positions = 8192, int num_layers = 2);

}  // namespace tessera::testing

#endif  // TESSERA_COORDINATOR_SIMULATE_SIMULATED_MODEL_H_
