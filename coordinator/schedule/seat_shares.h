// What each tenant may count on at the moment: seats (sequences that run at once) in proportion to
// the weights of the tenants that have work, and whether its turn is due. A view of a TenantQueue;
// cheap to make anew for every step.
//
//   SeatShares shares(queue, 64, yielding);
//   if (shares.below(tenant)) ...   // may ask a tenant beyond its share to give way
//
// A tenant that took a seat this way is at most at its share, and the one that lost it at least at
// its own: neither can take it back.
#ifndef TESSERA_COORDINATOR_SCHEDULE_SEAT_SHARES_H_
#define TESSERA_COORDINATOR_SCHEDULE_SEAT_SHARES_H_

#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "coordinator/schedule/sequence.h"
#include "coordinator/schedule/tenant_queue.h"

namespace tessera::coordinator {

class SeatShares {
 public:
  // `yielding`: sequences that still run but have given up their seat.
  SeatShares(const TenantQueue& queue, int seats, const std::vector<Sequence*>& yielding)
      : queue_(queue), seats_(seats), yielding_(yielding), active_(queue.Active()) {
    for (const int tenant : active_) {
      total_weight_ += queue.weight(tenant);
      if (queue.running(tenant) == 0) continue;
      someone_runs_ = true;
      least_credit_ = std::min(least_credit_, queue.credit(tenant));
    }
  }

  bool several() const { return active_.size() > 1; }
  const std::vector<int>& active() const { return active_; }  // in the order of their turns

  bool below(int tenant) const { return beyond(tenant) < 0; }

  // Seats taken beyond the tenant's share; negative: below it.
  int beyond(int tenant) const {
    const double fair = seats_ * queue_.weight(tenant) / total_weight_;
    int taken = queue_.running(tenant);
    for (const Sequence* sequence : yielding_) taken -= sequence->request->tenant == tenant;
    return taken - std::max(1, static_cast<int>(fair));
  }

  // The tenant furthest beyond its share.
  std::optional<int> MostBeyond() const {
    if (!several()) return std::nullopt;
    std::optional<int> most;
    for (const int tenant : active_) {
      if (beyond(tenant) > (most ? beyond(*most) : 0)) most = tenant;
    }
    return most;
  }

  // Has had less than its share: no seats beyond it, and credit left while somebody who runs has
  // less of it; or it comes new, without debt, to others that run.
  bool owed(int tenant) const {
    if (!several() || beyond(tenant) > 0) return false;
    const double credit = queue_.credit(tenant);
    if (credit > 0 && credit > least_credit_) return true;
    return credit >= 0 && queue_.running(tenant) == 0 && someone_runs_;
  }

 private:
  const TenantQueue& queue_;
  const int seats_;
  const std::vector<Sequence*>& yielding_;
  const std::vector<int> active_;
  double total_weight_ = 0;
  double least_credit_ = std::numeric_limits<double>::infinity();  // of those who run
  bool someone_runs_ = false;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_SEAT_SHARES_H_
