// The tags of every message between ranks, by the communicator that carries it. Messages of one
// (peer, tag) arrive in the order sent, so a tag need only keep apart what may come in any order.
//
//   TESSERA_RETURN_IF_ERROR(world->Send(peer, kStepTag, header));
#ifndef TESSERA_WORKER_COMM_MESSAGE_TAGS_H_
#define TESSERA_WORKER_COMM_MESSAGE_TAGS_H_

namespace tessera::worker {

// The world: a step loop's plans and results (engine/pipeline_links.h), the status barrier
// (status_barrier.h) and the leader's texts (receive_within.h).
inline constexpr int kStepTag = 101;        // stage → next stage, leader → its peers
inline constexpr int kResultTag = 102;      // last stage → leader
inline constexpr int kStatusTag = 103;      // rank → leader
inline constexpr int kOutcomeTag = 104;     // leader → rank
inline constexpr int kLeaderTextTag = 105;  // leader → rank

// A stage's tensor-parallel ranks.
inline constexpr int kLogitsTag = 1;  // tp_rank → tp_rank 0: full logits of a row

// The duplicate of a communicator that MPI's collectives have for themselves (mpi_transfers.h):
// every rank makes the same calls in the same order, so that one tag serves them all.
inline constexpr int kCollectiveTag = 0;

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_MESSAGE_TAGS_H_
