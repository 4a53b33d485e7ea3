// A model's vocabulary as a trie of its tokens' bytes, laid out in the order of a depth-first walk:
// going on is the next node, leaving a branch is one jump.
#ifndef TESSERA_COORDINATOR_GRAMMAR_TOKEN_TRIE_H_
#define TESSERA_COORDINATOR_GRAMMAR_TOKEN_TRIE_H_

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "coordinator/grammar/grammar.h"
#include "coordinator/grammar/grammar_cache.h"

namespace tessera::coordinator::grammar {

class TokenTrie : public GrammarVocabulary {
 public:
  struct Node {
    uint32_t skip = 0;    // the first node that is not below this one
    int32_t token = -1;   // that ends here; the others with the same bytes through next_alike
    uint16_t depth = 0;   // bytes up to and with this one, at least 1
    uint8_t byte = 0;
  };

  TokenTrie(const Tokenizer& tokenizer, absl::Span<const int32_t> stop_ids, int vocab_size);

  const std::vector<Node>& nodes() const { return nodes_; }
  // Another token with the bytes of `token`, -1: no more.
  int32_t next_alike(int32_t token) const { return next_alike_[token]; }
  // The bytes of a token that may be allowed; empty for all others.
  const std::string& bytes(int32_t token) const { return bytes_[token]; }
  bool Contains(int32_t token) const {
    return token >= 0 && static_cast<size_t>(token) < bytes_.size();
  }
  bool IsStop(int32_t token) const;
  const std::bitset<256>& single_bytes() const { return single_bytes_; }
  size_t longest_token_bytes() const { return longest_token_bytes_; }
  // Masks as TokenConstraint::AllowedMask has them.
  const std::string& stop_mask() const { return *stop_mask_; }
  std::shared_ptr<const std::string> shared_stop_mask() const { return stop_mask_; }
  bool has_stop() const { return has_stop_; }
  // Of grammars compiled for this vocabulary.
  GrammarCache& cache() const { return cache_; }

 private:
  void ReadTokens(const Tokenizer& tokenizer);
  void Build();

  std::vector<std::string> bytes_;  // by token
  std::vector<int32_t> next_alike_;  // by token
  std::vector<Node> nodes_;
  std::bitset<256> single_bytes_;
  size_t longest_token_bytes_ = 1;
  std::shared_ptr<const std::string> stop_mask_;
  bool has_stop_ = false;
  mutable GrammarCache cache_;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_TOKEN_TRIE_H_
