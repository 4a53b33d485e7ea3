// What a client asks for → what the router takes: prompt ids and everything that stands beside
// them in the request. Pure; takes a while for long texts.
//
// Errors: INVALID_ARGUMENT naming the field; FAILED_PRECONDITION for text when the model has no
// tokenizer, and for Chat when it has no template that can be evaluated.
//
//   TESSERA_ASSIGN_OR_RETURN(PreparedRequest prepared, Prepare(request, model));
//   prepared.tenant = caller.tenant;
#ifndef TESSERA_COORDINATOR_FRONT_PREPARE_H_
#define TESSERA_COORDINATOR_FRONT_PREPARE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/router/router.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// Takes what it needs out of `request`.
absl::StatusOr<PreparedRequest> Prepare(v1::GenerateRequest&& request, const ServedModel& model);
absl::StatusOr<PreparedRequest> Prepare(v1::ChatRequest&& request, const ServedModel& model);

// One request for each continuation, in order. With the most likely token at each place, whatever
// top_logprobs says: that is how greedy ones are known.
absl::StatusOr<std::vector<PreparedRequest>> Prepare(const v1::ScoreRequest& request,
                                                       const ServedModel& model);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_FRONT_PREPARE_H_
