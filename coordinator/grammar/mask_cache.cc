#include "coordinator/grammar/mask_cache.h"

#include <utility>

namespace tessera::coordinator::grammar {

// The position is kept twice, and the two maps cost about as much again.
size_t MaskCache::Entry::bytes() const {
  return mask->size() + 4 * position.size() * sizeof(position[0]) + 128;
}

std::shared_ptr<const std::string> MaskCache::Find(const Position& position) {
  MutexLock lock(&mutex_);
  const auto found = by_position_.find(position);
  if (found == by_position_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->mask;
}

std::shared_ptr<const std::string> MaskCache::Insert(const Position& position,
                                                     std::shared_ptr<const std::string> mask) {
  MutexLock lock(&mutex_);
  const auto found = by_position_.find(position);
  if (found != by_position_.end()) return found->second->mask;
  entries_.push_front({position, mask});
  by_position_.emplace(position, entries_.begin());
  bytes_ += entries_.front().bytes();
  while (bytes_ > max_bytes_ && entries_.size() > 1) {
    bytes_ -= entries_.back().bytes();
    by_position_.erase(entries_.back().position);
    entries_.pop_back();
  }
  return mask;
}

}  // namespace tessera::coordinator::grammar
