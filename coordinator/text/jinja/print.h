// Values → text: Python's str() and repr(), and json.dumps. Marks stay: the words of people inside,
// escapes included, are theirs; brackets and quotes are the template's.
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_PRINT_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_PRINT_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/text/jinja/budget.h"
#include "coordinator/text/jinja/value.h"

namespace tessera::coordinator {

// str(); of an undefined value nothing. Charges what it makes but for a string, which it copies.
absl::StatusOr<ChatPrompt> JinjaStr(const JinjaValue& value, JinjaBudget& budget);

struct JsonStyle {
  bool ascii_only = false;
  std::optional<std::string> indent = std::nullopt;  // of one level; nullopt: all in one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sorts_keys = false;
};

// INVALID_ARGUMENT for a value that JSON has no form of.
absl::StatusOr<ChatPrompt> JinjaToJson(const JinjaValue& value, const JsonStyle& style,
                                       JinjaBudget& budget);

// repr() of a float: "1.0", "1e-05", "inf".
std::string PythonFloat(double value);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_PRINT_H_
