#include "worker/comm/doorbells.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <utility>

namespace tessera::worker {
namespace {

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t) &&
              std::atomic<uint32_t>::is_always_lock_free);

// Shared between processes, so without FUTEX_PRIVATE_FLAG.
long Futex(std::atomic<uint32_t>& word, int operation, uint32_t value, const timespec* timeout) {
  return syscall(SYS_futex, &word, operation, value, timeout, nullptr, 0);
}

}  // namespace

Doorbells::Doorbells(std::map<int, Bell*> bells, int own)
    : bells_(std::move(bells)), own_(*bells_.at(own)) {}

// Both sides are sequentially consistent: either the ring is seen before the sleep, or the sleeper
// by whoever rings.
void Doorbells::Ring(int world_rank) {
  const auto found = bells_.find(world_rank);
  if (found == bells_.end()) return;
  Bell& bell = *found->second;
  bell.rings.fetch_add(1);
  if (bell.sleepers.load() > 0) Futex(bell.rings, FUTEX_WAKE, 1, nullptr);
}

bool Doorbells::Sleep(std::chrono::nanoseconds at_most) {
  constexpr int64_t kSecond = 1'000'000'000;
  const timespec timeout = {.tv_sec = at_most.count() / kSecond,
                            .tv_nsec = at_most.count() % kSecond};
  own_.sleepers.store(1);
  if (own_.rings.load() == heard_) Futex(own_.rings, FUTEX_WAIT, heard_, &timeout);
  own_.sleepers.store(0);
  const uint32_t rings = own_.rings.load();
  const bool rung = rings != heard_;
  heard_ = rings;
  return rung;
}

}  // namespace tessera::worker
