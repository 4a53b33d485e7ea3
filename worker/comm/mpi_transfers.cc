#include "worker/comm/mpi_transfers.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/comm/backoff.h"
#include "worker/comm/message_tags.h"

namespace tessera::worker {

void MpiTransfers::Begin(const Call& call) {
  call_ = call;
  transfers_.clear();
  requests_.clear();
}

absl::Status MpiTransfers::Send(int peer, const void* data, std::size_t bytes) {
  transfers_.push_back({peer, bytes, /*receives=*/false});
  requests_.push_back(MPI_REQUEST_NULL);
  return job_->Check(call_, "MPI_Isend",
                     MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, peer, kCollectiveTag,
                               communicator_, &requests_.back()));
}

absl::Status MpiTransfers::Receive(int peer, void* data, std::size_t bytes) {
  transfers_.push_back({peer, bytes, /*receives=*/true});
  requests_.push_back(MPI_REQUEST_NULL);
  return job_->Check(call_, "MPI_Irecv",
                     MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, peer, kCollectiveTag,
                               communicator_, &requests_.back()));
}

absl::Status MpiTransfers::Await() {
  statuses_.resize(requests_.size());
  Backoff backoff;
  while (true) {
    int done = 0;
    const int code = MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done,
                                 statuses_.data());
    if (done || code != MPI_SUCCESS) return CheckStatuses(code);
    if (backoff.waited() >= job_->deadline()) TESSERA_RETURN_IF_ERROR(GiveUp());
    backoff.Wait();
  }
}

absl::Status MpiTransfers::Barrier(const Call& call) {
  Begin(call);
  const int size = static_cast<int>(world_ranks_.size());
  for (int peer = 0; peer < size; ++peer) {
    if (world_ranks_[static_cast<size_t>(peer)] == job_->world_rank()) continue;
    TESSERA_RETURN_IF_ERROR(Receive(peer, nullptr, 0));
    TESSERA_RETURN_IF_ERROR(Send(peer, nullptr, 0));
  }
  return Await();
}

absl::StatusOr<bool> MpiTransfers::AllTrue(const Call& call, bool mine) {
  Begin(call);
  const auto size = static_cast<int>(world_ranks_.size());
  const char word = mine ? 1 : 0;
  std::vector<char> words(world_ranks_.size(), word);
  for (int peer = 0; peer < size; ++peer) {
    if (world_ranks_[static_cast<size_t>(peer)] == job_->world_rank()) continue;
    TESSERA_RETURN_IF_ERROR(Receive(peer, &words[static_cast<size_t>(peer)], 1));
    TESSERA_RETURN_IF_ERROR(Send(peer, &word, 1));
  }
  TESSERA_RETURN_IF_ERROR(Await());
  return std::find(words.begin(), words.end(), 0) == words.end();
}

absl::Status MpiTransfers::GiveUp() {
  // A missing answer says more about the peer than a send that has not been taken.
  int silent = -1;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    int done = 0;
    MPI_Request_get_status(requests_[i], &done, MPI_STATUS_IGNORE);
    if (done) continue;
    if (silent < 0 || transfers_[i].receives) silent = transfers_[i].peer;
    MPI_Cancel(&requests_[i]);
  }
  if (silent < 0) return absl::OkStatus();  // the last one came in at the last moment
  return job_->Fail(NoAnswer(call_, world_ranks_[static_cast<size_t>(silent)], job_->deadline()));
}

absl::Status MpiTransfers::CheckStatuses(int code) {
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) {
    return job_->Check(call_, "MPI_Testall", code);
  }
  for (size_t i = 0; i < transfers_.size(); ++i) {
    const Transfer& transfer = transfers_[i];
    const int peer_world_rank = world_ranks_[static_cast<size_t>(transfer.peer)];
    if (code == MPI_ERR_IN_STATUS && statuses_[i].MPI_ERROR != MPI_SUCCESS &&
        statuses_[i].MPI_ERROR != MPI_ERR_PENDING) {
      const char* function = transfer.receives ? "MPI_Irecv" : "MPI_Isend";
      return job_->Fail(CallError(
          call_, absl::StatusCode::kInternal,
          absl::StrCat("with world rank ", peer_world_rank, ": ",
                       MpiErrorText(function, statuses_[i].MPI_ERROR))));
    }
    if (!transfer.receives) continue;
    int received = 0;
    MPI_Get_count(&statuses_[i], MPI_BYTE, &received);
    if (static_cast<size_t>(received) != transfer.bytes) {
      return job_->Fail(UnequalLengths(call_, peer_world_rank, static_cast<size_t>(received)));
    }
  }
  return absl::OkStatus();
}

}  // namespace tessera::worker
