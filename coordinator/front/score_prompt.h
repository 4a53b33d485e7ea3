// A ScoreRequest → for each continuation the ids to compute, and from where they are scored. Pure.
//
// Where prompt and continuation are both text they are encoded as one, since a token may reach over
// the border ("is " + "Paris" is "is", " Paris"): scored from the first token that the continuation
// changes. Ids are put one behind the other.
//
//   TESSERA_ASSIGN_OR_RETURN(std::vector<ScorePrompt> prompts, ScorePrompts(request, model));
#ifndef TESSERA_COORDINATOR_FRONT_SCORE_PROMPT_H_
#define TESSERA_COORDINATOR_FRONT_SCORE_PROMPT_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/engine/served_model.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

struct ScorePrompt {
  std::vector<int32_t> ids;
  int from = 0;  // position of the first scored id; at least 1
};

// INVALID_ARGUMENT naming prompt or continuations[i]: one that is missing or empty, a prompt without
// a token (and no BOS to begin with), more tokens than the context holds, more than
// kMaxScoreTokens in all.
absl::StatusOr<std::vector<ScorePrompt>> ScorePrompts(const v1::ScoreRequest& request,
                                                      const ServedModel& model);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_FRONT_SCORE_PROMPT_H_
