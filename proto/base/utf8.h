// UTF-8 by bytes: validity, replacement and normalization. Pure functions, linear in their input.
//
//   SanitizeUtf8("a\xff");           // "a\xEF\xBF\xBD"
//   WholeUtf8Prefix("a\xE2\x82");    // 1: the two bytes may still become "€"
//   NormalizeNfc("e\u0301");         // "\u00E9"
#ifndef TESSERA_PROTO_BASE_UTF8_H_
#define TESSERA_PROTO_BASE_UTF8_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace tessera {

// Length of the longest prefix of `bytes` that is whole UTF-8; what follows it may still become a
// character. Invalid bytes count as whole (they are replaced on output).
size_t WholeUtf8Prefix(absl::string_view bytes);

// `bytes` with every invalid sequence replaced by U+FFFD, as Python's errors="replace": one
// replacement per maximal subpart of a character.
std::string SanitizeUtf8(absl::string_view bytes);

// For messages: `bytes` in quotes, valid UTF-8 whatever they are, without control characters, and
// cut after a line's worth of them.
std::string Quoted(absl::string_view bytes);

// Bytes of the character that starts with `lead` in valid UTF-8: 1 .. 4.
size_t Utf8CharLength(char lead);

// Normalization Form C of valid UTF-8. n log n in the longest run of combining marks.
std::string NormalizeNfc(absl::string_view valid_utf8);

}  // namespace tessera

#endif  // TESSERA_PROTO_BASE_UTF8_H_
