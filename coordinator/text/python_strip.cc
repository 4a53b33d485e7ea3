#include "coordinator/text/python_strip.h"

#include <utf8proc.h>

namespace tessera::coordinator {
namespace {

bool IsSpace(utf8proc_int32_t c) {
  if ((c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F) || c == 0x85) return true;
  const utf8proc_category_t category = utf8proc_category(c);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

// Bytes of the white space character that `text` begins with; 0: none.
size_t SpaceAtFront(absl::string_view text) {
  utf8proc_int32_t c = 0;
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                       static_cast<utf8proc_ssize_t>(text.size()), &c);
  return length > 0 && IsSpace(c) ? static_cast<size_t>(length) : 0;
}

size_t LastCharBegin(absl::string_view text) {
  size_t pos = text.size() - 1;
  while (pos > 0 && (text[pos] & 0xC0) == 0x80) --pos;
  return pos;
}

}  // namespace

absl::string_view PythonStrip(absl::string_view text) {
  while (!text.empty()) {
    const size_t length = SpaceAtFront(text);
    if (length == 0) break;
    text.remove_prefix(length);
  }
  while (!text.empty()) {
    const size_t last = LastCharBegin(text);
    if (SpaceAtFront(text.substr(last)) != text.size() - last) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

absl::string_view StripLeft(absl::string_view text, char c) {
  while (!text.empty() && text.front() == c) text.remove_prefix(1);
  return text;
}

absl::string_view StripRight(absl::string_view text, char c) {
  while (!text.empty() && text.back() == c) text.remove_suffix(1);
  return text;
}

}  // namespace tessera::coordinator
