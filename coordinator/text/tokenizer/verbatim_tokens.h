// Finds the tokens that are recognized in the text itself, before any merging: user-defined ones
// always, control ones when asked. Leftmost first, and the longest of those that start there.
// Immutable after Create.
//
//   matcher.Split("a<|im_end|>b", /*parse_special=*/true);   // "a", token 2, "b"
#ifndef TESSERA_COORDINATOR_TEXT_TOKENIZER_VERBATIM_TOKENS_H_
#define TESSERA_COORDINATOR_TEXT_TOKENIZER_VERBATIM_TOKENS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "coordinator/text/tokenizer/tokenizer.h"

namespace tessera::coordinator {

// Either a token found verbatim, or the text between two of them.
struct Fragment {
  int32_t id = -1;         // -1: text
  absl::string_view text;  // points into the text that was split; never empty
};

class VerbatimTokens {
 public:
  // INVALID_ARGUMENT for a token too long to look for at every position.
  absl::Status Add(absl::string_view token, int32_t id, bool is_control);

  // A control token is not looked for inside of `plain` (in order, without overlaps), nor may it
  // reach into it.
  std::vector<Fragment> Split(absl::string_view text, bool parse_special,
                              absl::Span<const TextRange> plain = {}) const;

 private:
  struct Node {
    int32_t id = -1;  // the token that ends here
    bool is_control = false;
  };

  // The longest token at the front of `text`, control tokens of at most `control_limit` bytes; id
  // -1 when there is none.
  Fragment MatchFront(absl::string_view text, size_t control_limit) const;

  // A trie: (node, byte) → node. The root is node 0.
  std::vector<Node> nodes_ = std::vector<Node>(1);
  absl::flat_hash_map<std::pair<uint32_t, uint8_t>, uint32_t> edges_;
  std::array<bool, 256> starts_{};  // bytes that begin any token: most positions stop here
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_TOKENIZER_VERBATIM_TOKENS_H_
