// Requests whose group was lost, and which no other group can take yet. Each waits until a group
// comes, until its deadline, or as long as the router is patient.
//
// Pure, not thread-safe.
//
//   stranded.Add(std::move(request), /*until=*/lost + patience);
//   for (AdmittedRequest& request : stranded.TakeAll()) ...      // a group has come
//   for (AdmittedRequest& request : stranded.TakeDue(now)) ...   // too late for these
#ifndef TESSERA_COORDINATOR_ROUTER_STRANDED_REQUESTS_H_
#define TESSERA_COORDINATOR_ROUTER_STRANDED_REQUESTS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/engine/admit.h"

namespace tessera::coordinator {

class StrandedRequests {
 public:
  void Add(AdmittedRequest request, absl::Time until);

  // By id, which is the order in which they came.
  std::vector<AdmittedRequest> TakeAll();
  std::vector<AdmittedRequest> TakeDue(absl::Time now);
  std::optional<AdmittedRequest> Take(int64_t id);

  absl::Time next_due() const;  // InfiniteFuture: none
  int size() const { return static_cast<int>(requests_.size()); }

 private:
  struct Entry {
    AdmittedRequest request;
    absl::Time until;
  };
  std::map<int64_t, Entry> requests_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ROUTER_STRANDED_REQUESTS_H_
