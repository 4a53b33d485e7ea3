#include "coordinator/text/chat_prompt.h"

#include <algorithm>
#include <utility>

#include "coordinator/text/python_strip.h"

namespace tessera::coordinator {
namespace {

// The first range that ends behind `pos`.
std::vector<TextRange>::const_iterator FirstBehind(const std::vector<TextRange>& ranges,
                                                   size_t pos) {
  return std::upper_bound(ranges.begin(), ranges.end(), pos,
                          [](size_t at, const TextRange& range) { return at < range.end; });
}

}  // namespace

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

ChatPrompt& ChatPrompt::AppendSlice(const ChatPrompt& from, size_t begin, size_t end) {
  const size_t offset = text_.size();
  for (auto range = FirstBehind(from.contents_, begin); range != from.contents_.end(); ++range) {
    if (range->begin >= end) break;
    const size_t first = std::max(range->begin, begin) - begin + offset;
    const size_t last = std::min(range->end, end) - begin + offset;
    if (!contents_.empty() && contents_.back().end == first) {
      contents_.back().end = last;
    } else {
      contents_.push_back({first, last});
    }
  }
  text_.append(from.text_, begin, end - begin);
  return *this;
}

bool ChatPrompt::IsContent(size_t pos) const {
  const auto range = FirstBehind(contents_, pos);
  return range != contents_.end() && range->begin <= pos;
}

void ChatPrompt::Strip() {
  const absl::string_view stripped = PythonStrip(text_);
  const size_t first = static_cast<size_t>(stripped.data() - text_.data());
  *this = ChatPrompt().AppendSlice(*this, first, first + stripped.size());
}

}  // namespace tessera::coordinator
