#include "coordinator/router/stranded_requests.h"

#include <algorithm>
#include <utility>

namespace tessera::coordinator {

void StrandedRequests::Add(AdmittedRequest request, absl::Time until) {
  const int64_t id = request.record.id;
  until = std::min(until, request.record.deadline);
  requests_.emplace(id, Entry{std::move(request), until});
}

std::vector<AdmittedRequest> StrandedRequests::TakeAll() {
  return TakeDue(absl::InfiniteFuture());
}

std::vector<AdmittedRequest> StrandedRequests::TakeDue(absl::Time now) {
  std::vector<AdmittedRequest> due;
  for (auto entry = requests_.begin(); entry != requests_.end();) {
    if (entry->second.until > now) {
      ++entry;
      continue;
    }
    due.push_back(std::move(entry->second.request));
    entry = requests_.erase(entry);
  }
  return due;
}

std::optional<AdmittedRequest> StrandedRequests::Take(int64_t id) {
  const auto entry = requests_.find(id);
  if (entry == requests_.end()) return std::nullopt;
  std::optional<AdmittedRequest> taken = std::move(entry->second.request);
  requests_.erase(entry);
  return taken;
}

absl::Time StrandedRequests::next_due() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [id, entry] : requests_) next = std::min(next, entry.until);
  return next;
}

}  // namespace tessera::coordinator
