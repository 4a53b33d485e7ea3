// A request body's share of the memory that all bodies may take; given back with the request.
#ifndef TESSERA_COORDINATOR_HTTP_BODY_LEASE_H_
#define TESSERA_COORDINATOR_HTTP_BODY_LEASE_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

namespace tessera::coordinator {

struct BodyLease {
  explicit BodyLease(std::shared_ptr<std::atomic<size_t>> counter) : total(std::move(counter)) {}
  ~BodyLease() { *total -= bytes; }
  BodyLease(const BodyLease&) = delete;
  BodyLease& operator=(const BodyLease&) = delete;

  // False, and nothing changes, when all together would pass `limit`.
  bool Grow(size_t to, size_t limit) {
    if (to <= bytes) return true;
    if (total->fetch_add(to - bytes) + (to - bytes) > limit) {
      *total -= to - bytes;
      return false;
    }
    bytes = to;
    return true;
  }

  std::shared_ptr<std::atomic<size_t>> total;
  size_t bytes = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_HTTP_BODY_LEASE_H_
