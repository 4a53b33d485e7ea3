#include "coordinator/text/tokenizer/verbatim_tokens.h"

#include "absl/strings/str_cat.h"
#include "proto/wire/status_builders.h"

namespace tessera::coordinator {
namespace {

// Bounds the work at one position of a text.
constexpr size_t kMaxVerbatimBytes = 1024;

// How far a control token may reach from one position and the next, which only go up.
class ControlLimit {
 public:
  ControlLimit(bool parse_special, absl::Span<const TextRange> plain)
      : parse_special_(parse_special), plain_(plain) {}

  size_t At(size_t pos) {
    if (!parse_special_) return 0;
    while (!plain_.empty() && plain_.front().end <= pos) plain_.remove_prefix(1);
    if (plain_.empty()) return absl::string_view::npos;
    return plain_.front().begin > pos ? plain_.front().begin - pos : 0;
  }

 private:
  const bool parse_special_;
  absl::Span<const TextRange> plain_;  // those that do not end before the position
};

}  // namespace

absl::Status VerbatimTokens::Add(absl::string_view token, int32_t id, bool is_control) {
  if (token.empty()) return absl::OkStatus();
  if (token.size() > kMaxVerbatimBytes) {
    return wire::FieldError(absl::StrCat("tokenizer.tokens[", id, "]"),
                            absl::StrCat("is a control or user-defined token of ", token.size(),
                                         " bytes; expected at most ", kMaxVerbatimBytes));
  }
  uint32_t node = 0;
  for (const char c : token) {
    const auto next = static_cast<uint32_t>(nodes_.size());
    const auto [edge, is_new] = edges_.try_emplace({node, static_cast<uint8_t>(c)}, next);
    if (is_new) nodes_.emplace_back();
    node = edge->second;
  }
  nodes_[node] = {id, is_control};
  starts_[static_cast<uint8_t>(token[0])] = true;
  return absl::OkStatus();
}

Fragment VerbatimTokens::MatchFront(absl::string_view text, size_t control_limit) const {
  Fragment longest;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto edge = edges_.find({node, static_cast<uint8_t>(text[i])});
    if (edge == edges_.end()) break;
    node = edge->second;
    const Node& here = nodes_[node];
    if (here.id >= 0 && (i < control_limit || !here.is_control)) {
      longest = {here.id, text.substr(0, i + 1)};
    }
  }
  return longest;
}

std::vector<Fragment> VerbatimTokens::Split(absl::string_view text, bool parse_special,
                                            absl::Span<const TextRange> plain) const {
  ControlLimit control_limit(parse_special, plain);
  std::vector<Fragment> fragments;
  size_t text_begin = 0;
  const auto end_text = [&](size_t end) {
    if (end > text_begin) fragments.push_back({-1, text.substr(text_begin, end - text_begin)});
  };
  for (size_t pos = 0; pos < text.size();) {
    if (!starts_[static_cast<uint8_t>(text[pos])]) {
      ++pos;
      continue;
    }
    const Fragment match = MatchFront(text.substr(pos), control_limit.At(pos));
    if (match.id < 0) {
      ++pos;
      continue;
    }
    end_text(pos);
    fragments.push_back(match);
    pos += match.text.size();
    text_begin = pos;
  }
  end_text(text.size());
  return fragments;
}

}  // namespace tessera::coordinator
