#include "coordinator/text/chat_prompt.h"

#include <algorithm>
#include <utility>

#include "coordinator/text/python_strip.h"

namespace tessera::coordinator {

ChatPrompt& ChatPrompt::Literal(absl::string_view words) {
  text_.append(words.data(), words.size());
  return *this;
}

ChatPrompt& ChatPrompt::Content(absl::string_view words) {
  if (words.empty()) return *this;
  contents_.push_back({text_.size(), text_.size() + words.size()});
  return Literal(words);
}

ChatPrompt& ChatPrompt::Append(const ChatPrompt& more) {
  const size_t offset = text_.size();
  for (const TextRange& range : more.contents_) {
    contents_.push_back({range.begin + offset, range.end + offset});
  }
  return Literal(more.text_);
}

void ChatPrompt::Strip() {
  const absl::string_view stripped = PythonStrip(text_);
  const size_t first = static_cast<size_t>(stripped.data() - text_.data());
  std::vector<TextRange> kept;
  for (const TextRange& range : contents_) {
    const size_t begin = std::max(range.begin, first);
    const size_t end = std::min(range.end, first + stripped.size());
    if (begin < end) kept.push_back({begin - first, end - first});
  }
  contents_ = std::move(kept);
  text_ = std::string(stripped);
}

}  // namespace tessera::coordinator
