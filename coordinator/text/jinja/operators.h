// Python's operators and subscripts on template values.
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_OPERATORS_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_OPERATORS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/text/jinja/budget.h"
#include "coordinator/text/jinja/syntax.h"
#include "coordinator/text/jinja/value.h"

namespace tessera::coordinator {

// + - * / // % **. INVALID_ARGUMENT for operands it has no meaning for, division by zero and
// integers past 64 bits.
absl::StatusOr<JinjaValue> JinjaArithmetic(JinjaOperator op, const JinjaValue& a,
                                           const JinjaValue& b, JinjaBudget& budget);
absl::StatusOr<JinjaValue> JinjaNegative(const JinjaValue& value);

// == != < <= > >= in, not in.
absl::StatusOr<bool> JinjaComparison(JinjaOperator op, const JinjaValue& a, const JinjaValue& b,
                                     JinjaBudget& budget);

// str(a) + str(b) + ...
absl::StatusOr<JinjaValue> JinjaConcat(const std::vector<JinjaValue>& parts, JinjaBudget& budget);

// object[key] and object.name; undefined where there is none. INVALID_ARGUMENT for an object that
// is undefined itself. `name` must outlive the value (it lies in the syntax tree).
absl::StatusOr<JinjaValue> JinjaItem(const JinjaValue& object, const JinjaValue& key,
                                     JinjaBudget& budget);
absl::StatusOr<JinjaValue> JinjaAttribute(const JinjaValue& object, absl::string_view name);

struct JinjaBounds {
  std::optional<int64_t> begin, end, step;
};
absl::StatusOr<JinjaValue> JinjaSlice(const JinjaValue& object, const JinjaBounds& bounds,
                                      JinjaBudget& budget);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_OPERATORS_H_
