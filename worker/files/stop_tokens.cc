#include "worker/files/stop_tokens.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <string>

namespace tessera::worker {
namespace {

constexpr const char* kEnds[] = {
    "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>",
    "</s>",       "<end_of_turn>", "<|end|>",      "<|eom_id|>",
};

}  // namespace

bool IsEndText(absl::string_view text) {
  return std::any_of(std::begin(kEnds), std::end(kEnds),
                     [text](const char* end) { return text == end; });
}

void SetStopIds(const std::vector<int32_t>& named, v1::TokenizerDescription* tokenizer) {
  std::set<int32_t> ids(named.begin(), named.end());
  if (tokenizer->has_eos_id()) ids.insert(tokenizer->eos_id());
  for (int id = 0; id < tokenizer->tokens_size(); ++id) {
    if (tokenizer->types(id) != v1::TOKEN_TYPE_CONTROL) continue;
    if (IsEndText(tokenizer->tokens(id))) ids.insert(id);
  }
  tokenizer->clear_stop_ids();
  for (const int32_t id : ids) tokenizer->add_stop_ids(id);
}

}  // namespace tessera::worker
