#include "coordinator/grammar/grammar_cache.h"

#include <algorithm>

#include "coordinator/grammar/limits.h"

namespace tessera::coordinator::grammar {

std::shared_ptr<AutomatonWithMasks> GrammarCache::Find(const std::string& source) {
  MutexLock lock(&mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.first == source; });
  if (found == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found);
  return entries_.front().second;
}

void GrammarCache::Insert(std::string source, std::shared_ptr<AutomatonWithMasks> grammar) {
  MutexLock lock(&mutex_);
  entries_.emplace_front(std::move(source), std::move(grammar));
  if (entries_.size() > kMaxCachedGrammars) entries_.pop_back();
}

}  // namespace tessera::coordinator::grammar
