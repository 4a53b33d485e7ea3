// Escapes and bracketed classes of regular expressions: the parts that name sets of characters.
#ifndef TESSERA_COORDINATOR_GRAMMAR_REGEX_ESCAPE_H_
#define TESSERA_COORDINATOR_GRAMMAR_REGEX_ESCAPE_H_

#include <cstddef>
#include <optional>

#include "absl/status/statusor.h"
#include "coordinator/grammar/character_set.h"
#include "coordinator/grammar/regex_cursor.h"

namespace tessera::coordinator::grammar {

struct Escape {
  CharacterSet set;
  std::optional<uint32_t> single;  // the one character it stands for: may begin or end a range
};

// The cursor is behind the backslash or the bracket, which stands at `offset`. INVALID_ARGUMENT
// naming what is not supported.
absl::StatusOr<Escape> ParseEscape(RegexCursor& cursor, size_t offset, bool in_class);
absl::StatusOr<CharacterSet> ParseClass(RegexCursor& cursor, size_t offset);

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_REGEX_ESCAPE_H_
