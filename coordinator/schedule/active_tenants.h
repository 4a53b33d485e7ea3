// Which tenants have added a request lately and are expected to come again. While another one than
// the one that runs is active, no step is sent ahead and prompts are cut for its sake: whoever
// comes waits for the steps in flight.
//
// Pure, not thread-safe.
//
//   ActiveTenants active;
//   active.Add(request.salt, now);
//   if (active.OtherThan(running.salt, now)) ...
#ifndef TESSERA_COORDINATOR_SCHEDULE_ACTIVE_TENANTS_H_
#define TESSERA_COORDINATOR_SCHEDULE_ACTIVE_TENANTS_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/schedule/scheduling_policy.h"
#include "coordinator/schedule/sequence.h"

namespace tessera::coordinator {

class ActiveTenants {
 public:
  // A tenant, known by its prefix salt, has added a request.
  void Add(uint64_t salt, absl::Time now) {
    if (newest_[0].first != salt) newest_[1] = newest_[0];
    newest_[0] = {salt, now};
  }

  // Whether a tenant besides that of `salt` is active.
  bool OtherThan(uint64_t salt, absl::Time now) const {
    for (const auto& [tenant, added] : newest_) {
      if (tenant != salt && now - added < policy::kTenantActive) return true;
    }
    return false;
  }

  // Whether any tenant is active or runs besides that of the first that runs.
  bool OtherThanRunning(const std::vector<Sequence*>& running, absl::Time now) const {
    if (running.empty()) return false;
    const uint64_t salt = running.front()->request->salt;
    return running.back()->request->salt != salt || OtherThan(salt, now);
  }

 private:
  // The last two to add a request: of two, one is another.
  std::pair<uint64_t, absl::Time> newest_[2] = {{0, absl::InfinitePast()},
                                                {0, absl::InfinitePast()}};
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_ACTIVE_TENANTS_H_
