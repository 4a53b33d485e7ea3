#include "coordinator/front/live_call.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "coordinator/engine/validate.h"
#include "proto/base/utf8.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

std::string NewRequestId() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return absl::StrFormat("req-%016x", generator());
}

}  // namespace

// A request id holds no NUL.
std::string CallKey(const std::string& tenant, const std::string& request_id) {
  return absl::StrCat(request_id, absl::string_view("\0", 1), tenant);
}

absl::Status CallRegistry::Add(const std::string& key, const std::weak_ptr<LiveCall>& call) {
  MutexLock lock(&mu_);
  if (calls_.emplace(key, call).second) return absl::OkStatus();
  const std::string request_id = key.substr(0, key.find('\0'));
  return absl::AlreadyExistsError(
      absl::StrCat("request_id ", Quoted(request_id), " belongs to a request that is under way"));
}

void CallRegistry::Remove(const std::string& key) {
  MutexLock lock(&mu_);
  calls_.erase(key);
}

std::shared_ptr<LiveCall> CallRegistry::Find(const std::string& key) {
  MutexLock lock(&mu_);
  const auto found = calls_.find(key);
  return found == calls_.end() ? nullptr : found->second.lock();
}

LiveCall::LiveCall(std::shared_ptr<CallContext> context, const Caller& caller)
    : context_(std::move(context)), caller_(caller), arrival_(absl::Now()) {}

LiveCall::~LiveCall() = default;

absl::Status LiveCall::Register(const std::string& request_id) {
  TESSERA_RETURN_IF_ERROR(CheckRequestId(request_id));
  request_id_ = request_id.empty() ? NewRequestId() : request_id;
  TESSERA_RETURN_IF_ERROR(
      context_->registry.Add(CallKey(caller_.tenant, request_id_), weak_from_this()));
  registered_ = true;
  return absl::OkStatus();
}

void LiveCall::Ended() {
  if (registered_) context_->registry.Remove(CallKey(caller_.tenant, request_id_));
}

void LiveCall::CountRefusal(const absl::Status& why) const {
  if (context_->metrics == nullptr) return;
  EndedRequest ended;
  ended.code = why.code();
  ended.end_to_end = absl::Now() - arrival_;
  context_->metrics->RequestEnded(ended);
}

}  // namespace tessera::coordinator
