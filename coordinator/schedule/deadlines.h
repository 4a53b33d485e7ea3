// When which request has to be looked at for its deadline, in order, so that nobody scans the
// queue. A request stands in it at most once; one that runs has its deadline there, one that waits
// the moment from which it would be too late to start.
//
//   deadlines.Set(&live, when);
//   while (LiveRequest* due = deadlines.PopDue(now)) ...   // finished, or set again later
#ifndef TESSERA_COORDINATOR_SCHEDULE_DEADLINES_H_
#define TESSERA_COORDINATOR_SCHEDULE_DEADLINES_H_

#include <set>
#include <utility>

#include "absl/time/time.h"
#include "coordinator/schedule/sequence.h"

namespace tessera::coordinator {

class Deadlines {
 public:
  // InfiniteFuture: never.
  void Set(LiveRequest* live, absl::Time when) {
    Remove(live);
    live->check_at = when;
    if (when != absl::InfiniteFuture()) queue_.insert(Key(*live));
  }

  void Remove(LiveRequest* live) {
    if (live->check_at != absl::InfiniteFuture()) queue_.erase(Key(*live));
    live->check_at = absl::InfiniteFuture();
  }

  // The earliest one whose time has come, taken out; null when there is none.
  LiveRequest* PopDue(absl::Time now) {
    if (queue_.empty() || queue_.begin()->when > now) return nullptr;
    LiveRequest* live = queue_.begin()->live;
    Remove(live);
    return live;
  }

 private:
  struct Entry {
    absl::Time when;
    int64_t arrival;  // so that the order never depends on addresses
    LiveRequest* live;
    bool operator<(const Entry& other) const {
      return when != other.when ? when < other.when : arrival < other.arrival;
    }
  };
  static Entry Key(LiveRequest& live) { return {live.check_at, live.choices[0].id, &live}; }

  std::set<Entry> queue_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_DEADLINES_H_
