#include "coordinator/router/prefix_index.h"

#include "absl/hash/hash.h"

namespace tessera::coordinator {

std::vector<uint64_t> PrefixHashes(const std::string& tenant, absl::Span<const int32_t> tokens) {
  std::vector<uint64_t> hashes;
  uint64_t before = absl::HashOf(tenant);
  for (size_t begin = 0; begin + kPrefixTokens <= tokens.size(); begin += kPrefixTokens) {
    before = absl::HashOf(before, tokens.subspan(begin, kPrefixTokens));
    hashes.push_back(before);
  }
  return hashes;
}

int PrefixIndex::Match(absl::Span<const uint64_t> hashes) const {
  int matched = 0;
  while (static_cast<size_t>(matched) < hashes.size() &&
         pieces_.count(hashes[static_cast<size_t>(matched)]) > 0) {
    ++matched;
  }
  return matched * kPrefixTokens;
}

// From the last piece to the first: the end of a prompt is forgotten before what it stands behind.
void PrefixIndex::Add(absl::Span<const uint64_t> hashes) {
  for (size_t i = hashes.size(); i-- > 0;) {
    const auto known = pieces_.find(hashes[i]);
    if (known != pieces_.end()) {
      used_.splice(used_.begin(), used_, known->second);
      continue;
    }
    used_.push_front(hashes[i]);
    pieces_.emplace(hashes[i], used_.begin());
  }
  while (pieces_.size() > capacity_) {
    pieces_.erase(used_.back());
    used_.pop_back();
  }
}

}  // namespace tessera::coordinator
