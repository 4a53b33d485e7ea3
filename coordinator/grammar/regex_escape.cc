#include "coordinator/grammar/regex_escape.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator::grammar {
namespace {

Escape Single(uint32_t character) {
  return {CharacterSet::Of({{character, character}}), character};
}

bool IsSurrogate(uint32_t c) { return c >= 0xD800 && c <= 0xDFFF; }

CharacterSet Digits() { return CharacterSet::Of({{'0', '9'}}); }
CharacterSet WordCharacters() {
  return CharacterSet::Of({{'a', 'z'}, {'A', 'Z'}, {'0', '9'}, {'_', '_'}});
}
CharacterSet Spaces() {
  return CharacterSet::Of({{'\t', '\r'},
                           {' ', ' '},
                           {0xA0, 0xA0},
                           {0x1680, 0x1680},
                           {0x2000, 0x200A},
                           {0x2028, 0x2029},
                           {0x202F, 0x202F},
                           {0x205F, 0x205F},
                           {0x3000, 0x3000},
                           {0xFEFF, 0xFEFF}});
}

// Behind "\u": four digits, a pair of surrogates written as two escapes, or {1 .. 6 digits}.
absl::StatusOr<Escape> ParseUnicode(RegexCursor& cursor, size_t offset) {
  const auto broken = [&] { return cursor.Error(offset, "is no \\uXXXX or \\u{...}"); };
  uint32_t character = 0;
  if (cursor.Take('{')) {
    uint32_t digit = 0;
    int digits = 0;
    for (; cursor.TakeHex(1, digit); ++digits) character = character << 4 | digit;
    if (!cursor.Take('}') || digits == 0 || digits > 6 || character > 0x10FFFF) return broken();
  } else if (!cursor.TakeHex(4, character)) {
    return broken();
  }
  uint32_t low = 0;
  if (character >= 0xD800 && character < 0xDC00 && cursor.Take('\\') && cursor.Take('u') &&
      cursor.TakeHex(4, low) && low >= 0xDC00 && low < 0xE000) {
    character = 0x10000 + ((character - 0xD800) << 10) + (low - 0xDC00);
  }
  if (IsSurrogate(character)) return cursor.Error(offset, "is half of a surrogate pair");
  return Single(character);
}

std::optional<CharacterSet> NamedClass(uint32_t letter) {
  switch (letter) {
    case 'd':
      return Digits();
    case 'D':
      return Digits().Complement();
    case 'w':
      return WordCharacters();
    case 'W':
      return WordCharacters().Complement();
    case 's':
      return Spaces();
    case 'S':
      return Spaces().Complement();
    default:
      return std::nullopt;
  }
}

std::optional<uint32_t> ControlCharacter(uint32_t letter) {
  switch (letter) {
    case 't':
      return '\t';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    default:
      return std::nullopt;
  }
}

// One member of a class that may begin or end a range.
absl::StatusOr<Escape> ParseClassItem(RegexCursor& cursor) {
  const size_t offset = cursor.offset();
  const uint32_t character = cursor.Next();
  if (character == '\\') return ParseEscape(cursor, offset, true);
  if (character == '[' && !cursor.at_end() && cursor.Peek() == ':') {
    return cursor.Error(offset, "classes such as [:alpha:] are not supported");
  }
  return Single(character);
}

}  // namespace

absl::StatusOr<Escape> ParseEscape(RegexCursor& cursor, size_t offset, bool in_class) {
  if (cursor.at_end()) return cursor.Error(offset, "a backslash ends the expression");
  const uint32_t letter = cursor.Next();
  if (auto named = NamedClass(letter)) return Escape{*std::move(named), std::nullopt};
  if (const auto control = ControlCharacter(letter)) return Single(*control);
  if (letter == 'u') return ParseUnicode(cursor, offset);
  uint32_t value = 0;
  if (letter == 'x') {
    if (!cursor.TakeHex(2, value)) return cursor.Error(offset, "is no \\xHH");
    return Single(value);
  }
  if (letter == 'b' && in_class) return Single('\b');
  if (letter == '0' &&
      (cursor.at_end() || !absl::ascii_isdigit(static_cast<uint8_t>(cursor.Peek())))) {
    return Single(0);
  }
  if (letter < 0x80 && absl::ascii_isdigit(static_cast<uint8_t>(letter))) {
    return cursor.Error(offset, "back references are not supported");
  }
  if (letter == 'b' || letter == 'B') {
    return cursor.Error(offset, "word boundaries (\\b) are not supported");
  }
  if (letter < 0x80 && absl::ascii_isalpha(static_cast<uint8_t>(letter))) {
    return cursor.Error(offset, absl::StrCat("\\", std::string(1, static_cast<char>(letter)),
                                             " is not supported"));
  }
  return Single(letter);
}

absl::StatusOr<CharacterSet> ParseClass(RegexCursor& cursor, size_t offset) {
  CharacterSet set;
  const bool is_negated = cursor.Take('^');
  if (!cursor.at_end() && cursor.Peek() == ']') {
    return cursor.Error(offset, "the class is empty; write \\] for a bracket in it");
  }
  while (!cursor.Take(']')) {
    if (cursor.at_end()) return cursor.Error(offset, "the class is not closed");
    const size_t item_offset = cursor.offset();
    TESSERA_ASSIGN_OR_RETURN(const Escape first, ParseClassItem(cursor));
    if (cursor.at_end() || cursor.Peek() != '-') {
      set.Add(first.set);
      continue;
    }
    cursor.Next();
    if (cursor.at_end()) return cursor.Error(offset, "the class is not closed");
    if (cursor.Peek() == ']') {  // a dash at the end stands for itself
      set.Add(first.set);
      set.Add('-', '-');
      continue;
    }
    TESSERA_ASSIGN_OR_RETURN(const Escape last, ParseClassItem(cursor));
    if (!first.single || !last.single || *first.single > *last.single) {
      return cursor.Error(item_offset, "is no range of characters");
    }
    set.Add(*first.single, *last.single);
  }
  return is_negated ? set.Complement() : set;
}

}  // namespace tessera::coordinator::grammar
