// Chat template → syntax tree.
//
//   TESSERA_ASSIGN_OR_RETURN(JinjaSyntax syntax, ParseJinja("{{ messages[0].content }}"));
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_PARSER_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_PARSER_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/jinja/syntax.h"

namespace tessera::coordinator {

// INVALID_ARGUMENT "line N: ..." for what is no Jinja or nests past a bound of jinja_syntax.h;
// UNIMPLEMENTED for Jinja outside of the subset: a statement, filter, test or method that is not
// known here.
absl::StatusOr<JinjaSyntax> ParseJinja(absl::string_view source);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_PARSER_H_
