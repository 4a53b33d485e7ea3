// What the clients say: random common words, as many as make the wanted number of tokens. Turn t of
// conversation i is the same in every run with the same seed, whoever is served first. Immutable.
//
//   PromptSource prompts(*std::move(lengths_of_workload), ...);
//   Turn turn = prompts.MakeTurn(Phase::kMeasured, /*conversation=*/17, /*turn=*/0);
#ifndef TESSERA_BENCHMARKS_SERVING_PROMPTS_H_
#define TESSERA_BENCHMARKS_SERVING_PROMPTS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "benchmarks/serving/length_distribution.h"
#include "benchmarks/serving/workload.h"

namespace tessera::benchmarks {

struct Turn {
  std::string prefix;  // shared with other conversations; empty after the first turn
  std::string text;
  int prompt_tokens = 0;  // of both, about
  int output_tokens = 0;
};

enum class Phase { kWarmup, kMeasured };  // the same prefixes, other words

class PromptSource {
 public:
  // tokens_per_word: of CalibrationText by the served tokenizer; > 0. `workload` is checked.
  static absl::StatusOr<PromptSource> Create(const Workload& workload, uint64_t seed,
                                             double tokens_per_word);

  Turn MakeTurn(Phase phase, int64_t conversation, int turn) const;

 private:
  PromptSource(LengthDistribution prompt_tokens, LengthDistribution output_tokens)
      : prompt_tokens_(std::move(prompt_tokens)), output_tokens_(std::move(output_tokens)) {}

  std::string Words(Random& random, int tokens) const;

  LengthDistribution prompt_tokens_;
  LengthDistribution output_tokens_;
  uint64_t seed_ = 0;
  uint64_t workload_key_ = 0;
  double tokens_per_word_ = 1.0;
  int shared_prefix_tokens_ = 0;
  int num_prefixes_ = 1;
};

// Every word once, separated by spaces, and how many there are.
std::string CalibrationText();
int CalibrationWords();

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_PROMPTS_H_
