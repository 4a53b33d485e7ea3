// Which beginnings of prompts a worker group has been given lately, so that a prompt goes where its
// beginning is cached already. What the group's prefix cache really holds is its scheduler's to
// know: an entry too many costs a detour, no correctness.
//
// Pure, not thread-safe; one per group.
//
//   const std::vector<uint64_t> hashes = PrefixHashes(tenant, prompt_ids);
//   int tokens = index.Match(hashes);
//   index.Add(hashes);
#ifndef TESSERA_COORDINATOR_ROUTER_PREFIX_INDEX_H_
#define TESSERA_COORDINATOR_ROUTER_PREFIX_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/types/span.h"

namespace tessera::coordinator {

inline constexpr int kPrefixTokens = 32;  // what one hash stands for

// One for each whole piece of kPrefixTokens: of all tokens up to its end, and of the tenant, whose
// prefixes are its own.
std::vector<uint64_t> PrefixHashes(const std::string& tenant, absl::Span<const int32_t> tokens);

class PrefixIndex {
 public:
  // Forgets what was used longest ago beyond so many pieces (at least 1).
  explicit PrefixIndex(size_t capacity) : capacity_(capacity) {}
  PrefixIndex(PrefixIndex&&) = default;
  PrefixIndex& operator=(PrefixIndex&&) = default;

  int Match(absl::Span<const uint64_t> hashes) const;  // tokens
  void Add(absl::Span<const uint64_t> hashes);

 private:
  size_t capacity_;
  std::list<uint64_t> used_;  // the latest first; of one prompt the first piece before the others
  std::unordered_map<uint64_t, std::list<uint64_t>::iterator> pieces_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ROUTER_PREFIX_INDEX_H_
