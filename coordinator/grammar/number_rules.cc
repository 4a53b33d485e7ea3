#include "coordinator/grammar/number_rules.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "coordinator/grammar/digit_rules.h"

namespace tessera::coordinator::grammar {
namespace {

constexpr size_t kMaxBoundDigits = 40;
constexpr size_t kDefaultIntegerDigits = 18;
constexpr size_t kDefaultNumberDigits = 9;
constexpr size_t kSignificantDigits = 15;  // so many always survive a double

int Compare(const Decimal& a, const Decimal& b) {
  if (a.is_negative != b.is_negative) return a.is_negative ? -1 : 1;
  int magnitude = 0;
  if (a.whole.size() != b.whole.size()) {
    magnitude = a.whole.size() < b.whole.size() ? -1 : 1;
  } else {
    magnitude = a.whole.compare(b.whole);
    if (magnitude == 0) magnitude = a.fraction.compare(b.fraction);
  }
  return a.is_negative ? -magnitude : magnitude;
}

Decimal Negated(Decimal value) {
  value.is_negative = !value.is_negative && !value.is_zero();
  return value;
}

// A range of numbers that are not negative.
struct Magnitudes {
  Bound low;
  Bound high;
};

std::string Increment(std::string digits) {
  for (size_t i = digits.size(); i-- > 0;) {
    if (digits[i] != '9') {
      ++digits[i];
      return digits;
    }
    digits[i] = '0';
  }
  return absl::StrCat("1", digits);
}

// digits > "0".
std::string Decrement(std::string digits) {
  for (size_t i = digits.size(); i-- > 0;) {
    if (digits[i] != '0') {
      --digits[i];
      break;
    }
    digits[i] = '9';
  }
  if (digits.size() > 1 && digits[0] == '0') digits.erase(0, 1);
  return digits;
}

NodeId WholeNumbers(Rules& rules, const Magnitudes& range) {
  const auto& [low, high] = range;
  std::string first = low.value.whole;
  if (!low.value.fraction.empty() || low.is_exclusive) first = Increment(first);
  std::string last = high.value.whole;
  if (high.value.fraction.empty() && high.is_exclusive) {
    if (last == "0") return rules.Nothing();
    last = Decrement(last);
  }
  return DigitRules(rules).WholeBetween(first, last);
}

NodeId Fractions(Rules& rules, const Magnitudes& range) {
  const auto& [low, high] = range;
  const size_t before_point = high.value.whole.size();
  const size_t needed = std::max(low.value.fraction.size(), high.value.fraction.size());
  const size_t behind_point =
      std::max(needed, kSignificantDigits - std::min(kSignificantDigits - 1, before_point));
  DigitRules digits(rules, static_cast<int64_t>(behind_point));
  const FractionBound from = {low.value.fraction, low.is_exclusive};
  const FractionBound to = {high.value.fraction, high.is_exclusive};
  if (low.value.whole == high.value.whole) {
    return rules.Concat({rules.Literal(low.value.whole), digits.FractionBetween(from, to)});
  }
  std::vector<NodeId> options;
  options.push_back(rules.Concat({rules.Literal(low.value.whole), digits.FractionFrom(from)}));
  const std::string next = Increment(low.value.whole);
  const std::string last = Decrement(high.value.whole);
  options.push_back(rules.Concat({digits.WholeBetween(next, last), digits.AnyFraction()}));
  options.push_back(rules.Concat({rules.Literal(high.value.whole), digits.FractionTo(to)}));
  return rules.Alternatives(std::move(options));
}

Bound Furthest(size_t digits, const std::optional<Bound>& other, bool is_negative) {
  if (other && other->value.is_negative == is_negative) {
    digits = std::max(digits, other->value.whole.size());
  }
  Bound furthest;
  furthest.value.is_negative = is_negative;
  furthest.value.whole.assign(digits, '9');
  return furthest;
}

// Splits at zero; "-0" is written by neither part.
template <typename WriteMagnitudes>
NodeId Between(Rules& rules, const Bound& low, const Bound& high, WriteMagnitudes write) {
  std::vector<NodeId> options;
  const Decimal zero;
  if (!Less(high.value, zero)) {
    const Bound from = HigherBound(low, {zero, false});
    if (!Less(high.value, from.value)) options.push_back(write(rules, {from, high}));
  }
  if (low.value.is_negative) {
    const Bound to = LowerBound(high, {zero, true});
    const Magnitudes mirrored = {{Negated(to.value), to.is_exclusive},
                                 {Negated(low.value), low.is_exclusive}};
    if (!Less(mirrored.high.value, mirrored.low.value)) {
      options.push_back(rules.Concat({rules.Literal("-"), write(rules, mirrored)}));
    }
  }
  return rules.Alternatives(std::move(options));
}

}  // namespace

absl::StatusOr<Decimal> Decimal::Parse(absl::string_view text) {
  Decimal decimal;
  decimal.is_negative = absl::ConsumePrefix(&text, "-");
  const size_t exponent_at = text.find_first_of("eE");
  int64_t exponent = 0;
  if (exponent_at != absl::string_view::npos &&
      !absl::SimpleAtoi(text.substr(exponent_at + 1), &exponent)) {
    return absl::InvalidArgumentError("is no number");
  }
  const absl::string_view mantissa = text.substr(0, exponent_at);
  const size_t point = std::min(mantissa.find('.'), mantissa.size());
  std::string digits = absl::StrCat(mantissa.substr(0, point),
                                    mantissa.substr(std::min(point + 1, mantissa.size())));
  const int64_t before_point = static_cast<int64_t>(point) + exponent;
  const auto limit = static_cast<int64_t>(kMaxBoundDigits);
  if (digits.size() > kMaxBoundDigits || before_point > limit || before_point < -limit) {
    return absl::InvalidArgumentError(
        absl::StrCat("needs more than ", kMaxBoundDigits, " digits"));
  }
  if (before_point < 0) digits.insert(0, static_cast<size_t>(-before_point), '0');
  const auto whole_digits = static_cast<size_t>(std::max<int64_t>(before_point, 0));
  if (digits.size() < whole_digits) digits.resize(whole_digits, '0');
  decimal.whole = digits.substr(0, whole_digits);
  decimal.fraction = digits.substr(whole_digits);
  decimal.whole.erase(0, std::min(decimal.whole.find_first_not_of('0'), decimal.whole.size()));
  if (decimal.whole.empty()) decimal.whole.push_back('0');
  decimal.fraction.resize(decimal.fraction.find_last_not_of('0') + 1);
  if (decimal.is_zero()) decimal.is_negative = false;
  return decimal;
}

bool Less(const Decimal& a, const Decimal& b) { return Compare(a, b) < 0; }

Bound HigherBound(const Bound& a, const Bound& b) {
  if (a.value == b.value) return {a.value, a.is_exclusive || b.is_exclusive};
  return Less(a.value, b.value) ? b : a;
}

Bound LowerBound(const Bound& a, const Bound& b) {
  if (a.value == b.value) return {a.value, a.is_exclusive || b.is_exclusive};
  return Less(a.value, b.value) ? a : b;
}

bool CanBeExact(const std::optional<Bound>& minimum, const std::optional<Bound>& maximum) {
  bool has_exclusive = false;
  size_t whole = 0, fraction = 0;
  for (const std::optional<Bound>& bound : {minimum, maximum}) {
    if (!bound) continue;
    has_exclusive |= bound->is_exclusive;
    whole = std::max(whole, bound->value.whole.size());
    fraction = std::max(fraction, bound->value.fraction.size());
  }
  return !has_exclusive || whole + fraction <= kSignificantDigits;
}

NodeId IntegerBetween(Rules& rules, const std::optional<Bound>& minimum,
                      const std::optional<Bound>& maximum) {
  return Between(rules, minimum.value_or(Furthest(kDefaultIntegerDigits, maximum, true)),
                 maximum.value_or(Furthest(kDefaultIntegerDigits, minimum, false)), WholeNumbers);
}

NodeId NumberBetween(Rules& rules, const std::optional<Bound>& minimum,
                     const std::optional<Bound>& maximum) {
  return Between(rules, minimum.value_or(Furthest(kDefaultNumberDigits, maximum, true)),
                 maximum.value_or(Furthest(kDefaultNumberDigits, minimum, false)), Fractions);
}

}  // namespace tessera::coordinator::grammar
