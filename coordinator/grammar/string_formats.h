// The formats of JSON Schema that are held to, as regular expressions.
#ifndef TESSERA_COORDINATOR_GRAMMAR_STRING_FORMATS_H_
#define TESSERA_COORDINATOR_GRAMMAR_STRING_FORMATS_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace tessera::coordinator::grammar {

// Nothing for a format that is only an annotation. Dates exist in the calendar.
std::optional<std::string> RegexOfFormat(absl::string_view format);

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_STRING_FORMATS_H_
