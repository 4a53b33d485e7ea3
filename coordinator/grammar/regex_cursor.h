// Reads a regular expression character by character. The text must be valid UTF-8 and outlive it.
#ifndef TESSERA_COORDINATOR_GRAMMAR_REGEX_CURSOR_H_
#define TESSERA_COORDINATOR_GRAMMAR_REGEX_CURSOR_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tessera::coordinator::grammar {

class RegexCursor {
 public:
  explicit RegexCursor(absl::string_view text) : text_(text) {}

  bool at_end() const { return offset_ == text_.size(); }
  size_t offset() const { return offset_; }  // in bytes

  // The byte at hand, enough to tell ASCII apart. Not at the end.
  uint8_t Peek() const { return static_cast<uint8_t>(text_[offset_]); }
  // The character at hand, stepping over it. Not at the end.
  uint32_t Next();
  // Steps over `ascii` if it is next.
  bool Take(char ascii);
  bool AtBraceWithDigit() const;
  // So many hexadecimal digits as a number; false, and nothing is read, when they are not there.
  bool TakeHex(int digits, uint32_t& value);

  // INVALID_ARGUMENT "<what> (at offset <offset>)".
  static absl::Status Error(size_t offset, absl::string_view what);

 private:
  absl::string_view text_;
  size_t offset_ = 0;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_REGEX_CURSOR_H_
