// Masks by position, the least recently used dropped beyond a bound of bytes. Safe from any thread.
#ifndef TESSERA_COORDINATOR_GRAMMAR_MASK_CACHE_H_
#define TESSERA_COORDINATOR_GRAMMAR_MASK_CACHE_H_

#include <cstddef>
#include <list>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "coordinator/grammar/configurations.h"
#include "proto/base/mutex.h"

namespace tessera::coordinator::grammar {

class MaskCache {
 public:
  explicit MaskCache(size_t max_bytes) : max_bytes_(max_bytes) {}

  // Null when it is not there.
  std::shared_ptr<const std::string> Find(const Position& position);
  // The mask that is kept: another thread's when that came first.
  std::shared_ptr<const std::string> Insert(const Position& position,
                                            std::shared_ptr<const std::string> mask);

 private:
  struct Entry {
    Position position;
    std::shared_ptr<const std::string> mask;
    size_t bytes() const;
  };
  using Entries = std::list<Entry>;

  const size_t max_bytes_;
  Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);  // the last used in front
  absl::flat_hash_map<Position, Entries::iterator> by_position_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_MASK_CACHE_H_
