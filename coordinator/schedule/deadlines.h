// When which request has to be looked at for its deadline, in order, so that nobody scans the
// queue. A request stands in it at most once; one that runs has its deadline there, one that waits
// the moment from which it would be too late to start.
//
//   deadlines.Set(&request, when);
//   while (RequestState* due = deadlines.PopDue(now)) ...   // finished, or set again later
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
  void Set(RequestState* request, absl::Time when) {
    Remove(request);
    request->check_at = when;
    if (when != absl::InfiniteFuture()) queue_.insert(Key(*request));
  }

  void Remove(RequestState* request) {
    if (request->check_at != absl::InfiniteFuture()) queue_.erase(Key(*request));
    request->check_at = absl::InfiniteFuture();
  }

  // The earliest one whose time has come, taken out; null when there is none.
  RequestState* PopDue(absl::Time now) {
    if (queue_.empty() || queue_.begin()->when > now) return nullptr;
    RequestState* request = queue_.begin()->request;
    Remove(request);
    return request;
  }

 private:
  struct Entry {
    absl::Time when;
    int64_t arrival;  // so that the order never depends on addresses
    RequestState* request;
    bool operator<(const Entry& other) const {
      return when != other.when ? when < other.when : arrival < other.arrival;
    }
  };
  static Entry Key(RequestState& request) {
    return {request.check_at, request.choices[0].id, &request};
  }

  std::set<Entry> queue_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_DEADLINES_H_
