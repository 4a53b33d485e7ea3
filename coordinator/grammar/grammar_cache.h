// What was compiled last, by source: a schema sent with every request is compiled once, and its
// masks are found once. Safe from any thread.
#ifndef TESSERA_COORDINATOR_GRAMMAR_GRAMMAR_CACHE_H_
#define TESSERA_COORDINATOR_GRAMMAR_GRAMMAR_CACHE_H_

#include <list>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"

#include "proto/base/mutex.h"
namespace tessera::coordinator::grammar {

struct AutomatonWithMasks;

class GrammarCache {
 public:
  // Null when it is not there.
  std::shared_ptr<AutomatonWithMasks> Find(const std::string& source);
  // The least recently used beyond kMaxCachedGrammars is dropped.
  void Insert(std::string source, std::shared_ptr<AutomatonWithMasks> grammar);

 private:
  using Entry = std::pair<std::string, std::shared_ptr<AutomatonWithMasks>>;

  Mutex mutex_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // the last used in front
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_GRAMMAR_CACHE_H_
