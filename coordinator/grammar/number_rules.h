// Numbers between bounds, as the texts that JSON allows for them, digit by digit and exact: no
// bound is ever converted to a double.
//
//   TESSERA_ASSIGN_OR_RETURN(Decimal minimum, Decimal::Parse("-12.5"));
//   NodeId node = NumberBetween(rules, {minimum, false}, std::nullopt);
#ifndef TESSERA_COORDINATOR_GRAMMAR_NUMBER_RULES_H_
#define TESSERA_COORDINATOR_GRAMMAR_NUMBER_RULES_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/grammar/rules.h"

namespace tessera::coordinator::grammar {

struct Decimal {
  bool is_negative = false;  // never for zero
  std::string whole = "0";   // digits without a leading zero, but for "0"
  std::string fraction;      // digits without a trailing zero

  // Of a JSON number. INVALID_ARGUMENT beyond 40 digits.
  static absl::StatusOr<Decimal> Parse(absl::string_view json_number);
  bool is_zero() const { return whole == "0" && fraction.empty(); }
  friend bool operator==(const Decimal&, const Decimal&) = default;
};

bool Less(const Decimal& a, const Decimal& b);

struct Bound {
  Decimal value;
  bool is_exclusive = false;
};

// The tighter of two lower (upper) bounds.
Bound HigherBound(const Bound& a, const Bound& b);
Bound LowerBound(const Bound& a, const Bound& b);

// Whether texts on either side of an exclusive bound stay apart as doubles, which is how most
// readers compare them: no more digits than a double keeps.
bool CanBeExact(const std::optional<Bound>& minimum, const std::optional<Bound>& maximum);

// Whole numbers; without a bound up to 18 digits, or as many as the other bound has.
NodeId IntegerBetween(Rules& rules, const std::optional<Bound>& minimum,
                      const std::optional<Bound>& maximum);
// Without an exponent; at most 15 digits that count, or as many as a bound needs. Without a bound
// up to 9 digits before the point, or as many as the other bound has.
NodeId NumberBetween(Rules& rules, const std::optional<Bound>& minimum,
                     const std::optional<Bound>& maximum);

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_NUMBER_RULES_H_
