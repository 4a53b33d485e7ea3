#include "tests/worker/engine/layout_answers.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tessera::worker {
namespace {

// The rows that both saw after the same tokens.
void CompareAnswers(const GenerationResult& actual, const GenerationResult& expected, size_t prompt,
                    size_t vocab, double tolerance, RunDifference& found) {
  const size_t rows = expected.logits.size() / vocab;
  double largest = 0;
  for (float logit : expected.logits) largest = std::max(largest, std::abs(double{logit}));
  for (size_t row = 0; row < rows; ++row) {
    const float* a = &actual.logits[row * vocab];
    const float* b = &expected.logits[row * vocab];
    for (size_t i = 0; i < vocab; ++i) {
      const double off = std::abs(double{a[i]} - b[i]) / largest;
      found.logits = std::max(found.logits, std::isfinite(off) ? off : 1e9);
    }
    if (row + 1 < prompt) continue;
    const size_t token = row + 1 - prompt;
    const int one = actual.tokens[token], other = expected.tokens[token];
    if (one == other) continue;
    ++found.parted;
    found.tokens = found.tokens || (b[other] - b[one]) / largest > 2 * tolerance;
    return;
  }
}

}  // namespace

std::vector<GenerationRequest> EightPrompts(int32_t vocab_size, int tokens, bool return_logits) {
  std::vector<GenerationRequest> requests;
  uint32_t state = 12345;
  for (int length : {1, 2, 7, 15, 16, 17, 33, 40}) {
    GenerationRequest request;
    for (int i = 0; i < length; ++i) {
      state = state * 1664525 + 1013904223;  // Numerical Recipes' generator
      request.prompt.push_back(static_cast<int32_t>((state >> 8) % vocab_size));
    }
    request.max_new_tokens = tokens;
    request.return_logits = return_logits;
    requests.push_back(std::move(request));
  }
  return requests;
}

std::string RunDifference::Text() const {
  if (!complete) return absl::StrCat(prompts, " prompts, INCOMPLETE");
  return absl::StrCat(prompts, " prompts, tokens ",
                      tokens        ? "DIFFER"
                      : parted == 0 ? "equal"
                                    : "equal until a near tie",
                      " (", parted, " parted), logits differ by ", logits, " of the largest");
}

RunDifference CompareRuns(const std::vector<GenerationRequest>& requests, size_t vocab,
                          const std::vector<GenerationResult>& actual,
                          const std::vector<GenerationResult>& expected, double tolerance) {
  RunDifference found;
  found.prompts = requests.size();
  found.complete = actual.size() == requests.size() && expected.size() == requests.size();
  for (size_t i = 0; found.complete && i < requests.size(); ++i) {
    const size_t tokens = static_cast<size_t>(requests[i].max_new_tokens);
    const size_t logits = (requests[i].prompt.size() + tokens - 1) * vocab;
    for (const GenerationResult* run : {&actual[i], &expected[i]}) {
      found.complete =
          found.complete && run->tokens.size() == tokens && run->logits.size() == logits;
    }
    if (!found.complete) break;
    CompareAnswers(actual[i], expected[i], requests[i].prompt.size(), vocab, tolerance, found);
  }
  return found;
}

}  // namespace tessera::worker
