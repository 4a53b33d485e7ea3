// Which group a request goes to: where it is expected to end first, as far as steps' times are
// known. What is cached of its prompt need not be computed; prompts that wait there already, and
// every stream beside it, cost it time. Pure.
//
//   std::vector<Candidate> candidates = ...;   // the groups that can take it
//   size_t best = Best(candidates, {.prompt_tokens = 900, .output_tokens = 128});
#ifndef TESSERA_COORDINATOR_ROUTER_PLACEMENT_H_
#define TESSERA_COORDINATOR_ROUTER_PLACEMENT_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "coordinator/engine/engine.h"

namespace tessera::coordinator {

struct Candidate {
  EngineLoad load;
  int cached_tokens = 0;  // of the request's prompt
};

struct RequestShape {
  int64_t prompt_tokens = 0;  // with those that an earlier group sampled
  int64_t output_tokens = 0;  // the most that are still to come
};

// Microseconds until its end. A group that has run nothing yet is taken to be an ordinary one.
double ExpectedMicros(const Candidate& candidate, const RequestShape& request);

// Of one at least; the first of equals.
size_t Best(absl::Span<const Candidate> candidates, const RequestShape& request);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ROUTER_PLACEMENT_H_
