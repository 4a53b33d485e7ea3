#include "coordinator/grammar/token_trie.h"

#include <algorithm>

#include "coordinator/grammar/limits.h"

namespace tessera::coordinator::grammar {

TokenTrie::TokenTrie(const Tokenizer& tokenizer, absl::Span<const int32_t> stop_ids,
                     int vocab_size) {
  bytes_.resize(std::max(vocab_size, tokenizer.vocab_size()));
  next_alike_.assign(bytes_.size(), -1);
  ReadTokens(tokenizer);
  auto stop_mask = std::make_shared<std::string>((bytes_.size() + 7) / 8, '\0');
  for (const int32_t id : stop_ids) {
    if (!Contains(id)) continue;
    (*stop_mask)[id / 8] = static_cast<char>((*stop_mask)[id / 8] | (1 << (id % 8)));
    bytes_[id].clear();  // ends the output, whatever its text
    has_stop_ = true;
  }
  stop_mask_ = std::move(stop_mask);
  Build();
}

bool TokenTrie::IsStop(int32_t token) const {
  return Contains(token) && ((*stop_mask_)[token / 8] >> (token % 8) & 1) != 0;
}

void TokenTrie::ReadTokens(const Tokenizer& tokenizer) {
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.IsControl(id) || tokenizer.IsStop(id)) continue;
    const std::string& bytes = tokenizer.TokenBytes(id);
    if (bytes.size() <= kMaxTokenBytes) bytes_[id] = bytes;
  }
}

void TokenTrie::Build() {
  std::vector<int32_t> order;
  for (size_t id = 0; id < bytes_.size(); ++id) {
    if (!bytes_[id].empty()) order.push_back(static_cast<int32_t>(id));
  }
  std::sort(order.begin(), order.end(), [this](int32_t a, int32_t b) {
    const int compared = bytes_[a].compare(bytes_[b]);
    return compared != 0 ? compared < 0 : a < b;
  });
  std::vector<uint32_t> path;  // nodes from the root's child down
  const auto leave_below = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back()) {
      nodes_[path.back()].skip = static_cast<uint32_t>(nodes_.size());
    }
  };
  const std::string* last = nullptr;
  for (const int32_t id : order) {
    const std::string& bytes = bytes_[id];
    size_t shared = 0;
    if (last != nullptr) {
      const size_t limit = std::min(last->size(), bytes.size());
      while (shared < limit && (*last)[shared] == bytes[shared]) ++shared;
    }
    leave_below(shared);
    for (size_t i = shared; i < bytes.size(); ++i) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({0, -1, static_cast<uint16_t>(i + 1), static_cast<uint8_t>(bytes[i])});
    }
    Node& node = nodes_[path.back()];
    next_alike_[id] = node.token;
    node.token = id;
    longest_token_bytes_ = std::max(longest_token_bytes_, bytes.size());
    if (bytes.size() == 1) single_bytes_.set(static_cast<uint8_t>(bytes[0]));
    last = &bytes;
  }
  leave_below(0);
}

}  // namespace tessera::coordinator::grammar
