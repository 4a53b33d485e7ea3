// Open MPI's on-node transport (vader) keeps a file per process that all processes of the node map:
// /dev/shm/vader_segment.<host>.<uid>.<job>.<local rank>, 4 MB each. This sees to it
//
//   that they have room: /dev/shm is small in most containers, and a file in a full one ends the
//   process (SIGBUS) at a write, long after the start. Where it is too small they go to the folder
//   of the job's session files, and what has been placed is reserved;
//
//   that none is left behind, however the processes end. Only an orderly end or a living mpirun
//   removes the file. Once every process of the node has mapped it the name is of no more use, so
//   we remove it: the kernel then frees the memory with the last process, even if all of them and
//   mpirun are killed. MPI_Finalize complains when it cannot remove the name itself, so an empty
//   file takes its place just before.
//
//   TESSERA_ASSIGN_OR_RETURN(const std::string note, PlaceSegments());
//   MPI_Init_thread(...);
//   TESSERA_RETURN_IF_ERROR(ReserveOwnSegment(node_rank));
//   ... messages between every two processes of the node ...
//   segment = UnlinkOwnSegment(node_rank);
#ifndef TESSERA_WORKER_COMM_MPI_SEGMENTS_H_
#define TESSERA_WORKER_COMM_MPI_SEGMENTS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tessera::worker {

struct Folder {
  std::string path;
  int64_t free_bytes = 0;  // 0 also where this process may not write
};

struct SegmentPlace {
  std::string path;  // of the folder
  std::string note;  // for the user, in one line; empty: it is the usual one
};

// Where `ranks` segments of `bytes` go: the usual folder, else the other one if there is one.
// RESOURCE_EXHAUSTED naming both, what they have and what is needed.
absl::StatusOr<SegmentPlace> ChoosePlace(int ranks, int64_t bytes, const Folder& usual,
                                         const std::optional<Folder>& other);

// Tells Open MPI, before it is initialized, where the segments of this host's ranks go; a folder
// that the user has chosen (btl_vader_backing_directory) stays. Returns the note that one rank of
// the host prints; empty on the others.
absl::StatusOr<std::string> PlaceSegments();

// Takes all the room of this process's own segment. RESOURCE_EXHAUSTED where it is not there; OK
// where there is no segment (another transport, or one process alone) or its file system cannot.
// `node_rank`: this process among those of its job on this node.
absl::Status ReserveOwnSegment(int node_rank);

// Removes the name of this process's own segment and returns it; empty if there is none. Call when
// all processes of the node have attached.
std::string UnlinkOwnSegment(int node_rank);

// Puts an empty file at `path`, the result of UnlinkOwnSegment.
void RestoreSegmentName(const std::string& path);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_MPI_SEGMENTS_H_
