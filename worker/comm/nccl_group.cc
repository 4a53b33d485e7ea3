#include "worker/comm/nccl_group.h"

#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "worker/comm/backoff.h"

namespace tessera::worker {
namespace {

constexpr absl::Duration kOrderlyEnd = absl::Milliseconds(500);

std::string Text(ncclResult_t code, ncclComm_t comm) {
  std::string text = ncclGetErrorString(code);
  const char* detail = comm != nullptr ? ncclGetLastError(comm) : nullptr;
  if (detail != nullptr && *detail != '\0') absl::StrAppend(&text, " (", detail, ")");
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NcclGroup>> NcclGroup::Create(const Setup& setup) {
  std::unique_ptr<NcclGroup> group(new NcclGroup(setup));
  TESSERA_RETURN_IF_ERROR(group->Connect());
  return group;
}

absl::Status NcclGroup::Connect() {
  const Call call{"Connect", 0, setup_.world_rank};
  ncclUniqueId id = {};
  absl::Status made;
  if (setup_.group->rank() == 0) {
    made = Check(call, "ncclGetUniqueId", ncclGetUniqueId(&id));
  }
  // An empty message says that there is no id; the others would wait for it otherwise.
  Bytes bytes;
  if (made.ok()) {
    const auto* begin = reinterpret_cast<const std::byte*>(&id);
    bytes.assign(begin, begin + sizeof(id));
  }
  TESSERA_RETURN_IF_ERROR(setup_.group->Broadcast(0, bytes));
  TESSERA_RETURN_IF_ERROR(made);
  if (bytes.size() != sizeof(id)) {
    return Fail(CallError(call, absl::StatusCode::kAborted, "the first rank has no unique id"));
  }
  std::memcpy(&id, bytes.data(), sizeof(id));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return Check(call, "ncclCommInitRankConfig",
               ncclCommInitRankConfig(&comm_, setup_.group->size(), id, setup_.group->rank(),
                                      &config));
}

absl::Status NcclGroup::Check(const Call& call, const char* function, ncclResult_t code) {
  if (!first_cause_.ok()) return first_cause_;
  if (code == ncclInProgress) return AwaitInProgress(call, function);
  if (code == ncclSuccess) return absl::OkStatus();
  return Fail(CallError(call, absl::StatusCode::kInternal,
                        absl::StrCat(function, ": ", Text(code, comm_))));
}

absl::Status NcclGroup::AwaitInProgress(const Call& call, const char* function) {
  for (Backoff backoff;; backoff.Wait()) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
    if (asked != ncclSuccess) return Check(call, "ncclCommGetAsyncError", asked);
    if (state != ncclInProgress) return Check(call, function, state);
    if (backoff.waited() >= setup_.deadline) {
      return Fail(CallError(call, absl::StatusCode::kDeadlineExceeded,
                            absl::StrCat(function, " is not done within ",
                                         absl::FormatDuration(setup_.deadline))));
    }
  }
}

absl::Status NcclGroup::CheckAsync(const Call& call) {
  if (!first_cause_.ok()) return first_cause_;
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
  if (asked != ncclSuccess) return Check(call, "ncclCommGetAsyncError", asked);
  if (state == ncclInProgress) return absl::OkStatus();
  return Check(call, "asynchronous error", state);
}

absl::Status NcclGroup::Fail(absl::Status status) {
  if (!first_cause_.ok()) return first_cause_;
  first_cause_ = std::move(status);
  if (comm_ != nullptr) {
    const ncclResult_t aborted = ncclCommAbort(std::exchange(comm_, nullptr));
    if (aborted != ncclSuccess && aborted != ncclInProgress) {
      first_cause_ = absl::Status(
          first_cause_.code(),
          absl::StrCat(first_cause_.message(), "; ncclCommAbort: ", ncclGetErrorString(aborted)));
    }
  }
  return first_cause_;
}

absl::StatusOr<std::byte*> NcclGroup::Allocate(size_t bytes) {
  const Call call{"Allocate", bytes, setup_.world_rank};
  Registered& registered = memory_.emplace_back();
  TESSERA_RETURN_IF_ERROR(
      Check(call, "ncclMemAlloc", ncclMemAlloc(&registered.data, bytes == 0 ? 1 : bytes)));
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
  TESSERA_RETURN_IF_ERROR(Check(call, "ncclCommWindowRegister",
                                ncclCommWindowRegister(comm_, registered.data, bytes,
                                                       &registered.window,
                                                       NCCL_WIN_COLL_SYMMETRIC)));
#endif
  return static_cast<std::byte*>(registered.data);
}

// The order that NCCL asks for: windows, communicator, memory. False: something failed, and is said
// in first_cause.
bool NcclGroup::Release() {
  const Call call{"Release", 0, setup_.world_rank};
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
  for (Registered& registered : memory_) {
    if (registered.window == nullptr) continue;
    if (!Check(call, "ncclCommWindowDeregister",
               ncclCommWindowDeregister(comm_, registered.window)).ok()) {
      return false;
    }
  }
#endif
  ncclResult_t code = ncclCommFinalize(comm_);
  for (Backoff backoff; code == ncclInProgress && backoff.waited() < kOrderlyEnd; backoff.Wait()) {
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &code);
    if (asked != ncclSuccess) return Check(call, "ncclCommGetAsyncError", asked).ok();
  }
  if (code == ncclInProgress) {  // the others went another way
    return Fail(CallError(call, absl::StatusCode::kDeadlineExceeded, "ncclCommFinalize")).ok();
  }
  if (!Check(call, "ncclCommFinalize", code).ok()) return false;
  const ncclResult_t destroyed = ncclCommDestroy(std::exchange(comm_, nullptr));
  return Check(call, "ncclCommDestroy", destroyed).ok();
}

NcclGroup::~NcclGroup() {
  if (comm_ != nullptr && first_cause_.ok() && !Release()) {
    std::fprintf(stderr, "%s\n", std::string(first_cause_.message()).c_str());
  }
  for (Registered& registered : memory_) {
    if (registered.data == nullptr) continue;
    if (const ncclResult_t code = ncclMemFree(registered.data); code != ncclSuccess) {
      std::fprintf(stderr, "ncclMemFree on world rank %d: %s\n", setup_.world_rank,
                   ncclGetErrorString(code));
    }
  }
}

}  // namespace tessera::worker
