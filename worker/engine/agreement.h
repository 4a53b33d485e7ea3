// Every rank learns whether all succeeded.
//
// Loading may take one rank minutes longer than another, far beyond the deadline of a communicator
// call, so this polls with a deadline of its own and naps between.
//
//   TESSERA_RETURN_IF_ERROR(AgreeOnStatus(*world, my_status, absl::Minutes(30), "loading"));
#ifndef TESSERA_WORKER_ENGINE_AGREEMENT_H_
#define TESSERA_WORKER_ENGINE_AGREEMENT_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {

// Collective. OK on every rank when `mine` is OK on every rank; otherwise the failure of the lowest
// failing rank, naming that rank, on all of them; a rank that waited in vain for another
// (DEADLINE_EXCEEDED, ABORTED) counts only if nobody failed otherwise. DEADLINE_EXCEEDED naming the
// rank waited for.
absl::Status AgreeOnStatus(Communicator& world, const absl::Status& mine, absl::Duration deadline,
                           absl::string_view doing);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_AGREEMENT_H_
