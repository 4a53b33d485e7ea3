#include "coordinator/text/jinja/text.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "absl/strings/match.h"
#include "coordinator/text/python_strip.h"
#include "proto/base/utf8.h"

namespace tessera::coordinator {
namespace {

// The character at `pos` and its bytes; a byte that is no UTF-8 is a character of its own, -1.
utf8proc_int32_t CharacterAt(absl::string_view text, size_t pos, size_t* bytes) {
  utf8proc_int32_t c = -1;
  const auto* data = reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + pos;
  const utf8proc_ssize_t length =
      utf8proc_iterate(data, static_cast<utf8proc_ssize_t>(text.size() - pos), &c);
  *bytes = length > 0 ? static_cast<size_t>(length) : 1;
  return length > 0 ? c : -1;
}

bool IsSpace(absl::string_view character) { return PythonStrip(character).empty(); }

bool IsLetter(utf8proc_int32_t c) {
  if (c < 0) return false;
  const utf8proc_category_t category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

// Letters that have two cases.
bool IsCased(utf8proc_int32_t c) {
  return c >= 0 && (utf8proc_tolower(c) != c || utf8proc_toupper(c) != c);
}

// `words` marked as the byte of `like` at `pos` is.
void AppendAs(absl::string_view words, const ChatPrompt& like, size_t pos, ChatPrompt& out) {
  const ChatPrompt marked = like.IsContent(pos) ? std::move(ChatPrompt().Content(words))
                                                : std::move(ChatPrompt().Literal(words));
  out.AppendSlice(marked, 0, words.size());
}

std::string Encoded(utf8proc_int32_t c) {
  std::array<utf8proc_uint8_t, 4> bytes;
  const auto length = static_cast<size_t>(utf8proc_encode_char(c, bytes.data()));
  return std::string(reinterpret_cast<const char*>(bytes.data()), length);
}

std::string Cased(utf8proc_int32_t c, bool upper) {
  constexpr utf8proc_int32_t kSharpS = 0xDF;
  if (c == kSharpS && upper) return "SS";
  return Encoded(upper ? utf8proc_toupper(c) : utf8proc_tolower(c));
}

std::vector<ChatPrompt> SplitAtSpaces(const ChatPrompt& text, int64_t most) {
  std::vector<ChatPrompt> parts;
  const absl::string_view all = text.text();
  absl::string_view rest = PythonStrip(all);
  while (!rest.empty()) {
    size_t length = 0;
    if (most >= 0 && static_cast<int64_t>(parts.size()) >= most) {
      // Python's last part keeps the white space that stands behind it.
      const auto begin = static_cast<size_t>(rest.data() - all.data());
      parts.push_back(TextSlice(text, begin, all.size()));
      return parts;
    }
    for (size_t bytes = 0; length < rest.size(); length += bytes) {
      CharacterAt(rest, length, &bytes);
      if (IsSpace(rest.substr(length, bytes))) break;
    }
    const auto begin = static_cast<size_t>(rest.data() - all.data());
    parts.push_back(TextSlice(text, begin, begin + length));
    rest.remove_prefix(length);
    while (!rest.empty()) {
      size_t bytes = 0;
      CharacterAt(rest, 0, &bytes);
      if (!IsSpace(rest.substr(0, bytes))) break;
      rest.remove_prefix(bytes);
    }
  }
  return parts;
}

}  // namespace

ChatPrompt TextSlice(const ChatPrompt& text, size_t begin, size_t end) {
  ChatPrompt slice;
  if (begin < end) slice.AppendSlice(text, begin, end);
  return slice;
}

size_t CharacterCount(absl::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<size_t> CharacterBegins(absl::string_view text) {
  std::vector<size_t> begins;
  begins.reserve(text.size() + 1);
  for (size_t i = 0; i < text.size(); ++i) {
    if ((text[i] & 0xC0) != 0x80) begins.push_back(i);
  }
  begins.push_back(text.size());
  return begins;
}

ChatPrompt TextStrip(const ChatPrompt& text, TextEnds ends,
                     std::optional<absl::string_view> characters) {
  const absl::string_view all = text.text();
  absl::string_view kept = all;
  if (!characters) {
    kept = PythonStrip(all);
    if (kept.empty()) return {};
  } else {
    const auto is_stripped = [&](absl::string_view character) {
      return absl::StrContains(*characters, character);
    };
    for (size_t bytes = 0; !kept.empty(); kept.remove_prefix(bytes)) {
      CharacterAt(kept, 0, &bytes);
      if (!is_stripped(kept.substr(0, bytes))) break;
    }
    while (!kept.empty()) {
      size_t last = kept.size() - 1;
      while (last > 0 && (kept[last] & 0xC0) == 0x80) --last;
      if (!is_stripped(kept.substr(last))) break;
      kept.remove_suffix(kept.size() - last);
    }
    if (kept.empty()) return {};
  }
  const auto begin = static_cast<size_t>(kept.data() - all.data());
  return TextSlice(text, ends == TextEnds::kRight ? 0 : begin,
                   ends == TextEnds::kLeft ? all.size() : begin + kept.size());
}

std::vector<ChatPrompt> TextSplit(const ChatPrompt& text, const TextSplitOptions& options) {
  if (!options.separator) return SplitAtSpaces(text, options.most);
  const absl::string_view all = text.text(), separator = *options.separator;
  const auto may_split = [&](size_t parts) {
    return options.most < 0 || static_cast<int64_t>(parts) < options.most;
  };
  std::vector<ChatPrompt> parts;
  if (options.from_right) {
    size_t end = all.size();
    while (may_split(parts.size())) {
      const size_t found =
          end < separator.size() ? all.npos : all.rfind(separator, end - separator.size());
      if (found == all.npos) break;
      parts.push_back(TextSlice(text, found + separator.size(), end));
      end = found;
    }
    parts.push_back(TextSlice(text, 0, end));
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  size_t begin = 0;
  while (may_split(parts.size())) {
    const size_t found = all.find(separator, begin);
    if (found == all.npos) break;
    parts.push_back(TextSlice(text, begin, found));
    begin = found + separator.size();
  }
  parts.push_back(TextSlice(text, begin, all.size()));
  return parts;
}

std::vector<ChatPrompt> TextLines(const ChatPrompt& text, bool keep_ends) {
  std::vector<ChatPrompt> lines;
  const absl::string_view all = text.text();
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find_first_of("\r\n", begin), all.size());
    size_t next = std::min(end + 1, all.size());
    if (end + 1 < all.size() && all[end] == '\r' && all[end + 1] == '\n') ++next;
    lines.push_back(TextSlice(text, begin, keep_ends ? next : end));
    begin = next;
  }
  return lines;
}

ChatPrompt TextReplace(const ChatPrompt& text, absl::string_view from, const ChatPrompt& to,
                       int64_t most) {
  ChatPrompt out;
  const absl::string_view all = text.text();
  size_t begin = 0;
  if (from.empty()) {  // before every character and at the end
    for (const size_t at : CharacterBegins(all)) {
      if (most-- == 0) break;
      out.AppendSlice(text, begin, at).AppendSlice(to, 0, to.text().size());
      begin = at;
    }
    return std::move(out.AppendSlice(text, begin, all.size()));
  }
  while (most-- != 0) {
    const size_t found = all.find(from, begin);
    if (found == all.npos) break;
    out.AppendSlice(text, begin, found).AppendSlice(to, 0, to.text().size());
    begin = found + from.size();
  }
  return std::move(out.AppendSlice(text, begin, all.size()));
}

size_t CountOccurrences(absl::string_view text, absl::string_view part) {
  if (part.empty()) return CharacterCount(text) + 1;
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++count;
  return count;
}

ChatPrompt TextToCase(const ChatPrompt& text, TextCase style) {
  ChatPrompt out;
  const absl::string_view all = text.text();
  bool starts_word = true;
  for (size_t pos = 0, bytes = 0; pos < all.size(); pos += bytes) {
    const utf8proc_int32_t c = CharacterAt(all, pos, &bytes);
    if (c < 0) {
      out.AppendSlice(text, pos, pos + bytes);
      continue;
    }
    const bool upper = style == TextCase::kUpper || (style != TextCase::kLower && starts_word);
    AppendAs(Cased(c, upper), text, pos, out);
    const absl::string_view character = all.substr(pos, bytes);
    starts_word = style == TextCase::kTitle ? !IsCased(c)
                  : style == TextCase::kTitleWords
                      ? IsSpace(character) || absl::StrContains("-({[<", character)
                      : false;
  }
  return out;
}

bool TextIs(absl::string_view text, TextClass kind) {
  if (text.empty()) return false;
  bool has_cased = false;
  for (size_t pos = 0, bytes = 0; pos < text.size(); pos += bytes) {
    const utf8proc_int32_t c = CharacterAt(text, pos, &bytes);
    const utf8proc_category_t category = c < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(c);
    const bool is_digit = category == UTF8PROC_CATEGORY_ND;
    has_cased = has_cased || IsCased(c);
    bool fits = true;
    if (kind == TextClass::kAlpha) fits = IsLetter(c);
    if (kind == TextClass::kDigit) fits = is_digit;
    if (kind == TextClass::kAlphanumeric) fits = IsLetter(c) || is_digit;
    if (kind == TextClass::kSpace) fits = IsSpace(text.substr(pos, bytes));
    if (kind == TextClass::kUpper) fits = category != UTF8PROC_CATEGORY_LL;
    if (kind == TextClass::kLower) fits = category != UTF8PROC_CATEGORY_LU;
    if (!fits) return false;
  }
  return has_cased || (kind != TextClass::kUpper && kind != TextClass::kLower);
}

}  // namespace tessera::coordinator
