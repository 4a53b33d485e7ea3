// What each tenant may count on at the moment: running slots in proportion to the weights of the
// tenants that have work, and whether it is in deficit (has been served less than its share). A
// view of a TenantQueue; cheap to make anew for every step. Pure.
//
//   SlotShares shares(table);
//   if (shares.below(tenant)) ...   // may have a tenant above its share preempted
//
// A tenant that took a slot this way is at most at its share, and the one that lost it at least at
// its own: neither can take it back.
#ifndef TESSERA_COORDINATOR_SCHEDULE_SLOT_SHARES_H_
#define TESSERA_COORDINATOR_SCHEDULE_SLOT_SHARES_H_

#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "coordinator/schedule/sequence_table.h"

namespace tessera::coordinator {

class SlotShares {
 public:
  // Who has work is as of now; slots and credits are read when they are asked for.
  explicit SlotShares(const SequenceTable& table)
      : tenants_(table.tenants()),
        slots_(table.slots()),
        victims_(table.victims()),
        active_(tenants_.Active()) {
    for (const int tenant : active_) {
      total_weight_ += tenants_.weight(tenant);
      if (tenants_.running(tenant) == 0) continue;
      someone_runs_ = true;
      least_credit_ = std::min(least_credit_, tenants_.credit(tenant));
    }
  }

  bool several() const { return active_.size() > 1; }
  const std::vector<int>& active() const { return active_; }  // in the order of their turns

  bool below(int tenant) const { return above(tenant) < 0; }

  // Slots taken above the tenant's share; negative: below it. Victims hold none any more.
  int above(int tenant) const {
    const double fair = slots_ * tenants_.weight(tenant) / total_weight_;
    int taken = tenants_.running(tenant);
    for (const Sequence* sequence : victims_) taken -= sequence->tenant == tenant;
    return taken - std::max(1, static_cast<int>(fair));
  }

  // The tenant furthest above its share.
  std::optional<int> MostAbove() const {
    if (!several()) return std::nullopt;
    std::optional<int> most;
    for (const int tenant : active_) {
      if (above(tenant) > (most ? above(*most) : 0)) most = tenant;
    }
    return most;
  }

  // No slots above its share, and credit left while somebody who runs has less of it; or it comes
  // new, without debt, to others that run.
  bool in_deficit(int tenant) const {
    if (!several() || above(tenant) > 0) return false;
    const double credit = tenants_.credit(tenant);
    if (credit > 0 && credit > least_credit_) return true;
    return credit >= 0 && tenants_.running(tenant) == 0 && someone_runs_;
  }

  // In deficit, below its share, and with somebody that waits: to be admitted ahead of its turn.
  bool MayAdmitAhead(int tenant) const {
    return tenants_.waiting(tenant) > 0 && below(tenant) && in_deficit(tenant);
  }

 private:
  const TenantQueue& tenants_;
  const int slots_;
  const std::vector<Sequence*>& victims_;
  const std::vector<int> active_;
  double total_weight_ = 0;
  double least_credit_ = std::numeric_limits<double>::infinity();  // of those who run
  bool someone_runs_ = false;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_SLOT_SHARES_H_
