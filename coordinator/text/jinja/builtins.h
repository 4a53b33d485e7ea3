// Jinja's filters, tests and methods: what the templates of chat models use.
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_BUILTINS_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_BUILTINS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/jinja/budget.h"
#include "coordinator/text/jinja/value.h"

namespace tessera::coordinator {

struct JinjaArguments {
  std::vector<JinjaValue> values;
  std::vector<std::pair<absl::string_view, JinjaValue>> keywords;

  // The argument at `index` or by its name; null where it was not given.
  const JinjaValue* Get(size_t index, absl::string_view name) const;
  // INVALID_ARGUMENT for more arguments than `names`, or one by another name.
  absl::Status Check(std::initializer_list<absl::string_view> names) const;
};

bool IsJinjaFilter(absl::string_view name);
bool IsJinjaTest(absl::string_view name);
bool IsJinjaMethod(absl::string_view name);

// INVALID_ARGUMENT for a subject or argument of a kind it cannot work on.
absl::StatusOr<JinjaValue> ApplyJinjaFilter(absl::string_view name, const JinjaValue& subject,
                                            const JinjaArguments& arguments, JinjaBudget& budget);
absl::StatusOr<bool> ApplyJinjaTest(absl::string_view name, const JinjaValue& subject,
                                    const JinjaArguments& arguments, JinjaBudget& budget);
// subject.name(arguments) of a string, list or dict.
absl::StatusOr<JinjaValue> CallJinjaMethod(absl::string_view name, const JinjaValue& subject,
                                           const JinjaArguments& arguments, JinjaBudget& budget);
// Is `name` a method of subject's kind?
bool HasJinjaMethod(absl::string_view name, const JinjaValue& subject);

// What a for loop runs over: items, a dict's keys, a string's characters.
absl::StatusOr<std::vector<JinjaValue>> JinjaItems(const JinjaValue& value, JinjaBudget& budget);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_BUILTINS_H_
