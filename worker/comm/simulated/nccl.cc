// NCCL's entry points over MPI messages between the processes of the job. Communicators are
// non-blocking: what needs other ranks says ncclInProgress and goes on when it is asked about. A
// collective is a piece of its stream's work that is blocked until the peers' parts have come, or
// until its communicator is aborted.
//
//   sum     every rank sends to rank 0 of the communicator, which adds in rank order in float32,
//           rounds once and sends to all
//   gather  every rank sends to every other one
//
// What a collective reads or writes must lie in one allocation of the GPU's.
//
// A collective that fails while it runs ("run@nccl...") is an asynchronous error of the communicator.
// Threads: the one that started MPI.
#include <mpi.h>
#include <nccl.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/half.h"
#include "kernels/simulated/call_sites.h"
#include "kernels/simulated/streams.h"

struct ncclComm {
  int size = 0;
  int rank = 0;
  int tag = 0;                    // of the first of this communicator's messages
  int root = 0;                   // world rank of rank 0
  std::vector<int> world;         // by rank
  std::vector<MPI_Request> open;  // of the initialization
  std::vector<int> told;          // rank 0: world ranks as they come
  int stage = 0;                  // of the initialization
  bool ready = false;
  bool registering = false;  // says "in progress" once
  ncclResult_t error = ncclSuccess;
  std::shared_ptr<bool> aborted = std::make_shared<bool>(false);
};

namespace tessera::gpu_stubs {
namespace {

enum Message { kJoin, kWorld, kSummand, kSum, kStage, kPart, kMessages };

struct Id {
  int32_t root;
  int32_t number;
};

int WorldRank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

bool AllDone(std::vector<MPI_Request>& requests) {
  int done = 0;
  MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE);
  return done != 0;
}

// Everybody tells rank 0 their world rank; it tells everybody all of them.
void GoOn(ncclComm& comm) {
  if (comm.ready || comm.error != ncclSuccess || !AllDone(comm.open)) return;
  comm.open.clear();
  ++comm.stage;
  if (comm.rank == 0 && comm.stage == 1) {
    comm.world = comm.told;
    for (int rank = 1; rank < comm.size; ++rank) {
      MPI_Isend(comm.world.data(), comm.size, MPI_INT, comm.world[rank], comm.tag + kWorld,
                MPI_COMM_WORLD, &comm.open.emplace_back());
    }
    return;
  }
  comm.ready = true;
}

// Memory of collectives that were given up: a message may still come that MPI writes there.
void KeepForMpi(std::vector<std::vector<uint16_t>> parts,
                std::vector<std::vector<uint8_t>> gathered) {
  static auto* const kept = new std::vector<
      std::pair<std::vector<std::vector<uint16_t>>, std::vector<std::vector<uint8_t>>>>;
  kept->emplace_back(std::move(parts), std::move(gathered));
}

// What one collective has under way.
struct Exchange {
  Exchange() = default;
  Exchange(const Exchange&) = delete;
  ~Exchange() {
    if (!requests.empty()) KeepForMpi(std::move(parts), std::move(gathered));
  }

  // Once all is done: for the next time that a recording runs.
  void Clear() {
    begun = summed = false;
    parts.clear();
    gathered.clear();
    requests.clear();
  }

  bool begun = false;
  bool summed = false;
  std::vector<std::vector<uint16_t>> parts;    // of a sum, or what goes from stage to stage
  std::vector<std::vector<uint8_t>> gathered;  // by rank
  std::vector<MPI_Request> requests;
};

template <typename T>
void Receive(Exchange& exchange, std::vector<T>& to, int from, int tag) {
  MPI_Irecv(to.data(), static_cast<int>(to.size() * sizeof(T)), MPI_BYTE, from, tag,
            MPI_COMM_WORLD, &exchange.requests.emplace_back());
}
template <typename T>
void Send(Exchange& exchange, const std::vector<T>& data, int to, int tag) {
  MPI_Isend(data.data(), static_cast<int>(data.size() * sizeof(T)), MPI_BYTE, to, tag,
            MPI_COMM_WORLD, &exchange.requests.emplace_back());
}

std::vector<uint16_t> Sum(const std::vector<std::vector<uint16_t>>& parts) {
  std::vector<uint16_t> sum(parts[0].size());
  for (size_t i = 0; i < sum.size(); ++i) {
    float total = 0;
    for (const auto& part : parts) total += kernels::BFloat16ToFloat(part[i]);
    sum[i] = kernels::FloatToBFloat16(total);
  }
  return sum;
}

// One look at a sum: true when `data` holds it.
bool SumGoesOn(const ncclComm& comm, Exchange& exchange, uint16_t* data, size_t count) {
  const int tag = comm.tag;
  if (!exchange.begun) {
    exchange.begun = true;
    exchange.parts.assign(comm.rank == 0 ? comm.size : 2, std::vector<uint16_t>(count));
    std::memcpy(exchange.parts[0].data(), data, count * 2);
    if (comm.rank == 0) {
      for (int rank = 1; rank < comm.size; ++rank) {
        Receive(exchange, exchange.parts[rank], comm.world[rank], tag + kSummand);
      }
    } else {
      Send(exchange, exchange.parts[0], comm.world[0], tag + kSummand);
      Receive(exchange, exchange.parts[1], comm.world[0], tag + kSum);
    }
  }
  if (!AllDone(exchange.requests)) return false;
  if (comm.rank == 0 && !exchange.summed) {
    exchange.summed = true;
    exchange.requests.clear();
    exchange.parts[0] = Sum(exchange.parts);
    for (int rank = 1; rank < comm.size; ++rank) {
      Send(exchange, exchange.parts[0], comm.world[rank], tag + kSum);
    }
    if (!AllDone(exchange.requests)) return false;
  }
  std::memcpy(data, exchange.parts[comm.rank == 0 ? 0 : 1].data(), count * 2);
  return true;
}

// One look at a gather: true when `all` holds every rank's part.
bool GatherGoesOn(const ncclComm& comm, Exchange& exchange, const uint8_t* mine, uint8_t* all,
                  size_t bytes) {
  if (!exchange.begun) {
    exchange.begun = true;
    exchange.gathered.assign(comm.size, std::vector<uint8_t>(bytes));
    exchange.gathered[comm.rank].assign(mine, mine + bytes);
    for (int rank = 0; rank < comm.size; ++rank) {
      if (rank == comm.rank) continue;
      Receive(exchange, exchange.gathered[rank], comm.world[rank], comm.tag + kPart);
      Send(exchange, exchange.gathered[comm.rank], comm.world[rank], comm.tag + kPart);
    }
  }
  if (!AllDone(exchange.requests)) return false;
  for (const std::vector<uint8_t>& part : exchange.gathered) {
    all = std::copy(part.begin(), part.end(), all);
  }
  return true;
}

// One look at a sum of float32: true when `data` holds that of all ranks, in their order.
bool FloatSumGoesOn(const ncclComm& comm, Exchange& exchange, float* data, size_t count) {
  std::vector<float> all(count * static_cast<size_t>(comm.size));
  if (!GatherGoesOn(comm, exchange, reinterpret_cast<const uint8_t*>(data),
                    reinterpret_cast<uint8_t*>(all.data()), count * sizeof(float))) {
    return false;
  }
  std::copy_n(all.begin(), count, data);
  for (size_t i = count; i < all.size(); ++i) data[i % count] += all[i];
  return true;
}

// A piece of stream work that goes on until `look` says true. A recorded piece runs again and again,
// each time from the beginning.
ncclResult_t Put(ncclComm* comm, cudaStream_t stream, const char* name,
                 std::function<bool(Exchange&)> look) {
  if (comm->error != ncclSuccess) return comm->error;
  const cudaError_t put = Enqueue(
      stream, [comm, name, look = std::move(look), aborted = comm->aborted,
               exchange = std::make_shared<Exchange>()]() -> cudaError_t {
        if (*aborted) return cudaSuccess;  // as aborted kernels end
        if (comm->error != ncclSuccess) return cudaErrorNotReady;
        if (!exchange->begun && KernelMustFail("run", name)) {
          comm->error = ncclRemoteError;
          return cudaErrorNotReady;
        }
        if (!look(*exchange)) return cudaErrorNotReady;
        exchange->Clear();
        return cudaSuccess;
      });
  if (put != cudaSuccess) return ncclUnhandledCudaError;
  // Whoever sends may not look at its stream for long.
  if (!IsCapturing(stream)) RunAhead(stream);
  return ncclSuccess;
}

}  // namespace
}  // namespace tessera::gpu_stubs

using namespace tessera::gpu_stubs;  // NOLINT: the entry points of the C library follow

extern "C" {

const char* ncclGetErrorString(ncclResult_t code) {
  switch (code) {
    case ncclSuccess:
      return "no error";
    case ncclSystemError:
      return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "internal error - please report this issue to the NCCL developers";
  }
}
const char* ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  static int number = 0;
  *id = {};
  const Id value{WorldRank(), ++number};
  std::memcpy(id, &value, sizeof(value));
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* out, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  if (config->blocking != 0) return ncclInvalidArgument;
  Id value;
  std::memcpy(&value, &id, sizeof(value));
  auto* comm = new ncclComm;
  comm->size = size;
  comm->rank = rank;
  comm->root = value.root;
  // Tags are known between pairs of ranks, and one root's communicators are numbered.
  comm->tag = 20000 + (value.root * 16 + value.number) * kMessages;
  comm->told.assign(size, WorldRank());
  comm->world.assign(size, -1);
  if (rank == 0) {
    for (int peer = 1; peer < size; ++peer) {
      MPI_Irecv(&comm->told[peer], 1, MPI_INT, MPI_ANY_SOURCE, comm->tag * 2 + peer, MPI_COMM_WORLD,
                &comm->open.emplace_back());
    }
  } else {
    MPI_Isend(&comm->told[0], 1, MPI_INT, comm->root, comm->tag * 2 + rank, MPI_COMM_WORLD,
              &comm->open.emplace_back());
    MPI_Irecv(comm->world.data(), size, MPI_INT, comm->root, comm->tag + kWorld, MPI_COMM_WORLD,
              &comm->open.emplace_back());
  }
  *out = comm;
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  GoOn(*comm);
  *error = comm->error != ncclSuccess          ? comm->error
           : comm->ready && !comm->registering ? ncclSuccess
                                               : ncclInProgress;
  comm->registering = false;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  return comm->error;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  *comm->aborted = true;  // what is left in graphs must not look at it
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  *comm->aborted = true;  // kept: its work may still be in line
  return ncclSuccess;
}

ncclResult_t ncclMemAlloc(void** data, size_t bytes) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  *data = AllocateOnGpu(bytes);
  return *data != nullptr ? ncclSuccess : ncclUnhandledCudaError;
}
ncclResult_t ncclMemFree(void* data) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  return FreeOnGpu(data) ? ncclSuccess : ncclInvalidArgument;
}

ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void* data, size_t, ncclWindow_t* window,
                                    int) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  *window = reinterpret_cast<ncclWindow_t>(data);
  comm->registering = true;
  return ncclInProgress;
}
ncclResult_t ncclCommWindowDeregister(ncclComm_t, ncclWindow_t) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  if (operation != ncclSum || from != to) return ncclInvalidArgument;
  if (type == ncclFloat32 && IsOnGpu(to, count * sizeof(float))) {
    auto* floats = static_cast<float*>(to);
    return Put(comm, stream, "ncclAllReduce", [comm, floats, count](Exchange& exchange) {
      return FloatSumGoesOn(*comm, exchange, floats, count);
    });
  }
  if (type != ncclBfloat16 || !IsOnGpu(to, count * 2)) return ncclInvalidArgument;
  auto* data = static_cast<uint16_t*>(to);
  return Put(comm, stream, "ncclAllReduce", [comm, data, count](Exchange& exchange) {
    return SumGoesOn(*comm, exchange, data, count);
  });
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  if (type != ncclUint8 || !IsOnGpu(from, count) || !IsOnGpu(to, count * comm->size)) {
    return ncclInvalidArgument;
  }
  const auto* mine = static_cast<const uint8_t*>(from);
  auto* all = static_cast<uint8_t*>(to);
  return Put(comm, stream, "ncclAllGather", [comm, mine, all, count](Exchange& exchange) {
    return GatherGoesOn(*comm, exchange, mine, all, count);
  });
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  if (type != ncclBfloat16 || !IsOnGpu(from, count * 2)) return ncclInvalidArgument;
  const auto* data = static_cast<const uint16_t*>(from);
  return Put(comm, stream, "ncclSend", [comm, data, count, peer](Exchange& exchange) {
    if (!exchange.begun) {
      exchange.begun = true;
      exchange.parts.emplace_back(data, data + count);
      Send(exchange, exchange.parts[0], comm->world[peer], comm->tag + kStage);
    }
    return AllDone(exchange.requests);
  });
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  TESSERA_STUB_ENTRY(ncclSystemError);
  if (type != ncclBfloat16 || !IsOnGpu(to, count * 2)) return ncclInvalidArgument;
  auto* data = static_cast<uint16_t*>(to);
  return Put(comm, stream, "ncclRecv", [comm, data, count, peer](Exchange& exchange) {
    if (!exchange.begun) {
      exchange.begun = true;
      exchange.parts.emplace_back(count);
      Receive(exchange, exchange.parts[0], comm->world[peer], comm->tag + kStage);
    }
    if (!AllDone(exchange.requests)) return false;
    std::memcpy(data, exchange.parts[0].data(), count * 2);
    return true;
  });
}

}  // extern "C"
