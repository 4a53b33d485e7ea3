// Leaves no shared memory behind, however the processes end.
//
// Open MPI's on-node transport keeps a file per process (/dev/shm/vader_segment.<host>.<uid>.
// <job>.<local rank>) that only an orderly end or a living mpirun removes. Once every process of
// the node has mapped it the name is of no more use, so we remove it: the kernel then frees the
// memory with the last process, even if all of them and mpirun are killed. MPI_Finalize complains
// when it cannot remove the name itself, so an empty file takes its place just before.
#ifndef TESSERA_WORKER_COMM_MPI_SEGMENTS_H_
#define TESSERA_WORKER_COMM_MPI_SEGMENTS_H_

#include <string>

namespace tessera::worker {

// Removes the name of this process's own segment and returns it; empty if there is none (another
// transport, or one process alone). Call when all processes of the node have attached.
// `node_rank`: this process among those of its job on this node.
std::string UnlinkOwnSegment(int node_rank);

// Puts an empty file at `path`, the result of UnlinkOwnSegment.
void RestoreSegmentName(const std::string& path);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_MPI_SEGMENTS_H_
