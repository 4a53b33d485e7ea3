// What sampling depends on besides the row of logits and the sampling parameters, written into a
// chunk: the scheduler's side of v1::LogitsState. Pure functions.
//
//   if (chunk_samples) FillSampling(sequence, vocab_size, chunk);
#ifndef TESSERA_COORDINATOR_SCHEDULE_LOGITS_STATE_H_
#define TESSERA_COORDINATOR_SCHEDULE_LOGITS_STATE_H_

#include <cstdint>
#include <vector>

#include "coordinator/schedule/sequence.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

// Whether what may be sampled depends on the token sampled before it: then the next step cannot be
// sent before that token is here.
bool NeedsLastToken(const ScheduledRequest& request);

// The distinct ids of the prompt when a repetition penalty wants them, else nothing.
std::vector<int32_t> PromptIdsForPenalty(const ScheduledRequest& request);

// Sets chunk->sampling and, when there is something to say, chunk->draw: for the token that follows
// the tokens known and those being sampled. `vocab_size` 0 = unknown.
void FillSampling(Sequence& sequence, int vocab_size, v1::SequenceChunk* chunk);

// Whether FillSampling writes the same for each of the request's tokens.
bool HasStatelessSampling(const ScheduledRequest& request);

// False when the sequence's constraint does not allow `token` next.
bool MayFollow(Sequence& sequence, int32_t token);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_LOGITS_STATE_H_
