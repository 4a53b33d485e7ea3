#include "coordinator/router/placement.h"

#include <algorithm>

namespace tessera::coordinator {
namespace {

// Of a group whose steps have not been measured. Only their proportions matter, and only until then.
constexpr double kPromptTokenMicros = 100;
constexpr double kStepMicros = 10'000;
constexpr double kDecodeMicros = 500;  // of each stream in a step
// max_tokens says little of how long an answer will be: more than so many count as these.
constexpr int64_t kOutputTokens = 128;

}  // namespace

double ExpectedMicros(const Candidate& candidate, const RequestShape& request) {
  const EngineLoad& load = candidate.load;
  const bool known = load.step_micros > 0;
  const double prompt_token = known ? load.prompt_token_micros : kPromptTokenMicros;
  const double decode = known ? load.decode_micros : kDecodeMicros;
  const double step = known ? load.step_micros : kStepMicros;
  const double own = static_cast<double>(
      std::max<int64_t>(1, request.prompt_tokens - candidate.cached_tokens));
  const double prompts = prompt_token * (static_cast<double>(load.waiting_tokens) + own);
  const double outputs = static_cast<double>(std::min(request.output_tokens, kOutputTokens));
  // Those that find no slot wait until others have ended.
  const int turns = load.slots > 0 ? 1 + load.live / load.slots : 1;
  return prompts + turns * outputs * (step + decode * load.live);
}

size_t Best(absl::Span<const Candidate> candidates, const RequestShape& request) {
  size_t best = 0;
  for (size_t i = 1; i < candidates.size(); ++i) {
    if (ExpectedMicros(candidates[i], request) < ExpectedMicros(candidates[best], request)) {
      best = i;
    }
  }
  return best;
}

}  // namespace tessera::coordinator
