#include "worker/comm/mpi_job.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/comm/backoff.h"
#include "worker/comm/mpi_segments.h"
#include "worker/comm/mpi_transfers.h"
#include "worker/comm/shared_pieces.h"
#include "worker/comm/watchdog.h"

namespace tessera::worker {
namespace {

// How long Open MPI's own last words may take, once there is nobody left to wait for.
constexpr absl::Duration kFinalizeLimit = absl::Seconds(10);
constexpr absl::Duration kAbortLimit = absl::Seconds(2);

}  // namespace

std::string MpiErrorText(const char* function, int code) {
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) {
    return absl::StrCat(function, ": MPI error ", code);
  }
  return absl::StrCat(function, ": ", text);
}

absl::StatusOr<std::shared_ptr<MpiJob>> MpiJob::Start(const CommunicatorOptions& options) {
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (initialized) {
    return absl::FailedPreconditionError(
        "MPI_Init_thread: this process has initialized MPI before; expected once per process");
  }
  TESSERA_ASSIGN_OR_RETURN(const std::string note, PlaceSegments());
  if (!note.empty()) std::fprintf(stderr, "note: %s\n", note.c_str());
  int provided = MPI_THREAD_SINGLE;
  const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  if (code != MPI_SUCCESS) return absl::InternalError(MpiErrorText("MPI_Init_thread", code));
  // From here on ~MpiJob ends MPI, one way or the other.
  std::shared_ptr<MpiJob> job(new MpiJob(options));
  TESSERA_RETURN_IF_ERROR(job->Initialize(provided));
  return job;
}

absl::Status MpiJob::Initialize(int provided_thread_level) {
  Call call{"MPI_Init_thread", 0, 0};
  TESSERA_RETURN_IF_ERROR(Check(call, "MPI_Comm_set_errhandler",
                                MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN)));
  TESSERA_RETURN_IF_ERROR(
      Check(call, "MPI_Comm_rank", MPI_Comm_rank(MPI_COMM_WORLD, &world_rank_)));
  call.world_rank = world_rank_;
  if (provided_thread_level < MPI_THREAD_FUNNELED) {
    return Fail(CallError(call, absl::StatusCode::kFailedPrecondition,
                          absl::StrCat("thread level ", provided_thread_level,
                                       ", expected MPI_THREAD_FUNNELED or better")));
  }
  TESSERA_RETURN_IF_ERROR(
      Check(call, "MPI_Comm_dup", MPI_Comm_dup(MPI_COMM_WORLD, &last_barrier_)));
  TESSERA_RETURN_IF_ERROR(Adopt(call, last_barrier_));
  return MeetNode(call);
}

absl::Status MpiJob::MeetNode(const Call& call) {
  MPI_Comm node = MPI_COMM_NULL;
  TESSERA_RETURN_IF_ERROR(
      Check(call, "MPI_Comm_split_type",
            MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, world_rank_, MPI_INFO_NULL,
                                &node)));
  TESSERA_RETURN_IF_ERROR(Adopt(call, node));
  TESSERA_ASSIGN_OR_RETURN(std::vector<int> world_ranks, WorldRanksOf(call, node));
  MpiTransfers transfers(this, node, world_ranks);
  int node_rank = 0;
  TESSERA_RETURN_IF_ERROR(Check(call, "MPI_Comm_rank", MPI_Comm_rank(node, &node_rank)));
  TESSERA_RETURN_IF_ERROR(Fail(ReserveOwnSegment(node_rank)));
  // The first barrier carries a message between every two processes of the node, for which they
  // map each other's segments; after the second all know that all have.
  TESSERA_RETURN_IF_ERROR(transfers.Barrier(call));
  TESSERA_RETURN_IF_ERROR(transfers.Barrier(call));
  segment_ = UnlinkOwnSegment(node_rank);
  return HangBells(call, node_rank, transfers, world_ranks);
}

absl::Status MpiJob::HangBells(const Call& call, int node_rank, MpiTransfers& transfers,
                               absl::Span<const int> world_ranks) {
  TESSERA_ASSIGN_OR_RETURN(const bool wanted, transfers.AllTrue(call, options_.shared_memory));
  if (!wanted || world_ranks.size() == 1) return absl::OkStatus();
  TESSERA_ASSIGN_OR_RETURN(const std::vector<std::byte*> pieces,
                           MapPieces(this, call, transfers, node_rank, world_ranks.size(),
                                     sizeof(Doorbells::Bell)));
  if (pieces.empty()) {
    if (node_rank == 0) {
      std::fprintf(stderr,
                   "note: the ranks of this host cannot share memory: they sum by message, which "
                   "is slower\n");
    }
    return absl::OkStatus();
  }
  std::map<int, Doorbells::Bell*> bells;
  for (size_t i = 0; i < pieces.size(); ++i) {
    bells[world_ranks[i]] = reinterpret_cast<Doorbells::Bell*>(pieces[i]);
  }
  bells_ = std::make_unique<Doorbells>(std::move(bells), world_rank_);
  int world_size = 0;
  TESSERA_RETURN_IF_ERROR(
      Check(call, "MPI_Comm_size", MPI_Comm_size(MPI_COMM_WORLD, &world_size)));
  all_ring_ = world_ranks.size() == static_cast<size_t>(world_size);
  return absl::OkStatus();
}

absl::Status MpiJob::Fail(absl::Status status) {
  if (first_cause_.ok()) first_cause_ = std::move(status);
  return first_cause_;
}

absl::Status MpiJob::Check(const Call& call, const char* function, int code) {
  if (code == MPI_SUCCESS) return absl::OkStatus();
  return Fail(CallError(call, absl::StatusCode::kInternal, MpiErrorText(function, code)));
}

absl::Status MpiJob::Adopt(const Call& call, MPI_Comm communicator) {
  adopted_.push_back(communicator);
  return Check(call, "MPI_Comm_set_errhandler",
               MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN));
}

absl::StatusOr<std::vector<int>> MpiJob::WorldRanksOf(const Call& call, MPI_Comm communicator) {
  MPI_Group world_group = MPI_GROUP_NULL;
  MPI_Group group = MPI_GROUP_NULL;
  int size = 0;
  TESSERA_RETURN_IF_ERROR(Check(call, "MPI_Comm_size", MPI_Comm_size(communicator, &size)));
  TESSERA_RETURN_IF_ERROR(
      Check(call, "MPI_Comm_group", MPI_Comm_group(MPI_COMM_WORLD, &world_group)));
  TESSERA_RETURN_IF_ERROR(Check(call, "MPI_Comm_group", MPI_Comm_group(communicator, &group)));
  std::vector<int> ranks(static_cast<size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  std::vector<int> world_ranks(ranks.size());
  TESSERA_RETURN_IF_ERROR(Check(
      call, "MPI_Group_translate_ranks",
      MPI_Group_translate_ranks(group, size, ranks.data(), world_group, world_ranks.data())));
  MPI_Group_free(&group);
  MPI_Group_free(&world_group);
  return world_ranks;
}

absl::Status MpiJob::StartSend(const Call& call, Bytes data, const Route& route) {
  send_bytes_.push_back(std::move(data));
  send_requests_.push_back(MPI_REQUEST_NULL);
  const Bytes& bytes = send_bytes_.back();
  return Check(call, "MPI_Isend",
               MPI_Isend(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, route.peer,
                         route.tag, route.communicator, &send_requests_.back()));
}

absl::Status MpiJob::ReapSends(const Call& call) {
  if (send_requests_.empty()) return absl::OkStatus();
  completed_.resize(send_requests_.size());
  int completed_count = 0;
  TESSERA_RETURN_IF_ERROR(Check(
      call, "MPI_Testsome",
      MPI_Testsome(static_cast<int>(send_requests_.size()), send_requests_.data(),
                   &completed_count, completed_.data(), MPI_STATUSES_IGNORE)));
  if (completed_count <= 0) return absl::OkStatus();
  size_t kept = 0;
  for (size_t i = 0; i < send_requests_.size(); ++i) {
    if (send_requests_[i] == MPI_REQUEST_NULL) continue;
    if (kept != i) {
      send_requests_[kept] = send_requests_[i];
      send_bytes_[kept] = std::move(send_bytes_[i]);
    }
    ++kept;
  }
  send_requests_.resize(kept);
  send_bytes_.resize(kept);
  return absl::OkStatus();
}

absl::Status MpiJob::DrainSends() {
  Backoff backoff;
  while (true) {
    const Call call{"Finalize", 0, world_rank_};
    TESSERA_RETURN_IF_ERROR(ReapSends(call));
    if (send_requests_.empty()) return absl::OkStatus();
    if (backoff.waited() >= deadline()) {
      return Fail(CallError(
          call, absl::StatusCode::kDeadlineExceeded,
          absl::StrCat(send_requests_.size(), " sent messages not received within ",
                       absl::FormatDuration(deadline()))));
    }
    backoff.Wait();
  }
}

absl::Status MpiJob::Finalize() {
  const Call call{"Finalize", 0, world_rank_};
  TESSERA_RETURN_IF_ERROR(first_cause_);
  TESSERA_RETURN_IF_ERROR(DrainSends());
  TESSERA_ASSIGN_OR_RETURN(std::vector<int> world_ranks, WorldRanksOf(call, MPI_COMM_WORLD));
  TESSERA_RETURN_IF_ERROR(
      MpiTransfers(this, last_barrier_, std::move(world_ranks)).Barrier(call));
  // Every rank made its communicators in the same order.
  for (MPI_Comm& communicator : adopted_) {
    TESSERA_RETURN_IF_ERROR(Check(call, "MPI_Comm_free", MPI_Comm_free(&communicator)));
  }
  RestoreSegmentName(segment_);
  const Watchdog watchdog("MPI_Finalize", std::max(deadline(), kFinalizeLimit));
  return Check(call, "MPI_Finalize", MPI_Finalize());
}

void MpiJob::Abort() {
  std::fprintf(stderr, "aborting the MPI job: %s\n", first_cause_.ToString().c_str());
  const Watchdog watchdog("MPI_Abort", kAbortLimit);
  MPI_Abort(MPI_COMM_WORLD, 1);
  std::_Exit(1);  // should MPI_Abort ever return
}

MpiJob::~MpiJob() {
  if (!Finalize().ok()) Abort();
}

}  // namespace tessera::worker
