// A PreparedRequest, checked against the model and split into what the scheduler computes and what
// the client sees. Pure.
//
//   TESSERA_ASSIGN_OR_RETURN(AdmittedRequest admitted, Admit(std::move(request), model, seed));
#ifndef TESSERA_COORDINATOR_ENGINE_ADMIT_H_
#define TESSERA_COORDINATOR_ENGINE_ADMIT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/engine/request.h"
#include "coordinator/engine/request_record.h"
#include "coordinator/engine/served_model.h"
#include "coordinator/schedule/scheduler.h"

namespace tessera::coordinator {

struct AdmittedRequest {
  ScheduledRequest scheduled;  // its id is the caller's to set
  RequestRecord record;        // likewise, and its sink
};

// INVALID_ARGUMENT naming the field. `default_seed` is for a client that sent none.
absl::StatusOr<AdmittedRequest> Admit(PreparedRequest request,
                                      std::shared_ptr<const ServedModel> model,
                                      uint64_t default_seed);

// The seeds of `count` choices: the first is the request's own, so that it is what n = 1 gives.
std::vector<uint64_t> ChoiceSeeds(uint64_t seed, int count);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_ADMIT_H_
