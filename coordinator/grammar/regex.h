// Regular expressions, the part that ECMAScript and Python mean alike: literals, escapes, classes,
// groups, alternatives, * + ? {m} {m,} {m,n} (lazy forms alike), the dot, ^ and $ at the ends.
// \d \w \s and the dot are ECMAScript's: ASCII, but for the Unicode spaces of \s; the dot is any
// character but \n \r U+2028 U+2029. Refused by name: look-around, back references, \b, \p, flags,
// possessive forms.
//
//   TESSERA_ASSIGN_OR_RETURN(NodeId root, ParseRegex("[a-z]+(-[0-9]{1,3})?", {}, rules));
#ifndef TESSERA_COORDINATOR_GRAMMAR_REGEX_H_
#define TESSERA_COORDINATOR_GRAMMAR_REGEX_H_

#include <functional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/grammar/rules.h"

namespace tessera::coordinator::grammar {

struct RegexOptions {
  // How one character of the text is written; default: as itself. A JSON string escapes some.
  std::function<NodeId(Rules&, CharacterSet)> write;
  // Without ^ (or $) anything may stand before (or behind) a match, as `pattern` of JSON Schema has
  // it. Otherwise the whole text matches.
  bool is_search = false;
};

// INVALID_ARGUMENT naming the offset in bytes.
absl::StatusOr<NodeId> ParseRegex(absl::string_view pattern, const RegexOptions& options,
                                  Rules& rules);

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_REGEX_H_
