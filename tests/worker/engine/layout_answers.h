// A fixed job, and whether two runs of it gave the same answers as near as their arithmetic allows.
//
//   const auto requests = EightPrompts(vocab, 32, /*return_logits=*/true);
//   const RunDifference found = CompareRuns(requests, vocab, one.results(), other.results(), 0.1);
//   std::cout << found.Text(); return found.Within(0.1);
#ifndef TESSERA_TESTS_WORKER_ENGINE_LAYOUT_ANSWERS_H_
#define TESSERA_TESTS_WORKER_ENGINE_LAYOUT_ANSWERS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/worker/engine/generation_script.h"

namespace tessera::worker {

// Eight prompts of different lengths with ids below vocab_size, `tokens` greedy tokens each.
std::vector<GenerationRequest> EightPrompts(int32_t vocab_size, int tokens, bool return_logits);

struct RunDifference {
  size_t prompts = 0;
  bool complete = false;  // every token and every row of logits is there, in both runs
  double logits = 0;      // the largest difference, of the largest logit
  bool tokens = false;    // some differ that the logits do not explain
  int parted = 0;         // prompts whose answers went different ways after a near tie

  bool Within(double tolerance) const { return complete && !tokens && logits <= tolerance; }
  // "8 prompts, tokens equal (0 parted), logits differ by 0.01 of the largest"
  std::string Text() const;
};

// `expected` decides how large logits are and which of two tokens was nearer. Once a prompt's
// answers part, what follows is not compared. Both runs with logits, vocab of them for each token.
RunDifference CompareRuns(const std::vector<GenerationRequest>& requests, size_t vocab,
                          const std::vector<GenerationResult>& actual,
                          const std::vector<GenerationResult>& expected, double tolerance);

}  // namespace tessera::worker

#endif  // TESSERA_TESTS_WORKER_ENGINE_LAYOUT_ANSWERS_H_
