#include "coordinator/text/tokenizer/text_stream.h"

#include <algorithm>
#include <utility>

namespace tessera::coordinator {
namespace {

std::vector<size_t> Borders(absl::string_view text) {
  std::vector<size_t> border(text.size() + 1, 0);
  for (size_t end = 1, k = 0; end < text.size(); ++end) {
    while (k > 0 && text[k] != text[end]) k = border[k];
    if (text[k] == text[end]) ++k;
    border[end + 1] = k;
  }
  return border;
}

}  // namespace

TextStream::TextStream(const Tokenizer* tokenizer, const std::vector<std::string>& stop,
                       bool skip_special, TextBefore before)
    : tokenizer_(tokenizer),
      skip_special_(skip_special),
      drops_space_(before == TextBefore::kNothing && tokenizer->strips_leading_space()) {
  for (const std::string& text : stop) {
    if (text.empty()) continue;
    StopString& added = stops_.emplace_back();
    added.text = SanitizeUtf8(text);  // as the output it is compared with
    added.fallback = Borders(added.text);
  }
}

void TextStream::StopString::Advance(char c) {
  while (matched > 0 && text[matched] != c) matched = fallback[matched];
  if (text[matched] == c) ++matched;
}

std::string TextStream::Push(int32_t id, bool may_stop) {
  if (stopped_ || (skip_special_ && tokenizer_->IsControl(id))) return "";
  absl::string_view added = tokenizer_->TokenBytes(id);
  if (added.empty()) return "";
  if (std::exchange(drops_space_, false) && added[0] == ' ') added.remove_prefix(1);
  bytes_.append(added.data(), added.size());
  const size_t whole = WholeUtf8Prefix(bytes_);
  const std::string characters = SanitizeUtf8(absl::string_view(bytes_).substr(0, whole));
  bytes_.erase(0, whole);
  return Accept(characters, may_stop);
}

std::string TextStream::Flush() {
  if (stopped_) return "";
  std::string text = Accept(SanitizeUtf8(std::exchange(bytes_, "")), /*may_stop=*/true);
  if (!stopped_) text += std::exchange(held_, "");
  return text;
}

std::string TextStream::Accept(absl::string_view characters, bool may_stop) {
  if (stops_.empty()) return std::string(characters);
  for (const char c : characters) {
    held_ += c;
    size_t longest_complete = 0;
    for (StopString& stop : stops_) {
      stop.Advance(c);
      if (!stop.complete()) continue;
      if (may_stop) longest_complete = std::max(longest_complete, stop.text.size());
      stop.matched = stop.fallback[stop.matched];
    }
    if (longest_complete > 0) {
      stopped_ = true;
      held_.resize(held_.size() - longest_complete);
      return std::exchange(held_, "");
    }
  }
  size_t undecided = 0;
  for (const StopString& stop : stops_) undecided = std::max(undecided, stop.matched);
  std::string certain = held_.substr(0, held_.size() - undecided);
  held_.erase(0, certain.size());
  return certain;
}

}  // namespace tessera::coordinator
