#include "coordinator/grammar/regex_cursor.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/base/utf8.h"

namespace tessera::coordinator::grammar {

uint32_t RegexCursor::Next() {
  const size_t length = Utf8CharLength(text_[offset_]);
  uint32_t character = Peek();
  if (length > 1) {
    character &= 0x7FU >> length;
    for (size_t i = 1; i < length; ++i) {
      character = character << 6 | (static_cast<uint8_t>(text_[offset_ + i]) & 0x3FU);
    }
  }
  offset_ += length;
  return character;
}

bool RegexCursor::Take(char ascii) {
  if (at_end() || text_[offset_] != ascii) return false;
  ++offset_;
  return true;
}

bool RegexCursor::AtBraceWithDigit() const {
  return offset_ + 1 < text_.size() && text_[offset_] == '{' &&
         absl::ascii_isdigit(static_cast<uint8_t>(text_[offset_ + 1]));
}

bool RegexCursor::TakeHex(int digits, uint32_t& value) {
  if (offset_ + digits > text_.size()) return false;
  uint32_t read = 0;
  for (int i = 0; i < digits; ++i) {
    const auto c = static_cast<uint8_t>(absl::ascii_tolower(text_[offset_ + i]));
    if (!absl::ascii_isxdigit(c)) return false;
    read = read * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
  }
  offset_ += digits;
  value = read;
  return true;
}

absl::Status RegexCursor::Error(size_t offset, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(what, " (at offset ", offset, ")"));
}

}  // namespace tessera::coordinator::grammar
