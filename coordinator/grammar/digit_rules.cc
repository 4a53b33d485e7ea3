#include "coordinator/grammar/digit_rules.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tessera::coordinator::grammar {
namespace {

char DigitAt(const FractionBound& bound, size_t at) {
  return at < bound.digits.size() ? bound.digits[at] : '0';
}

char Above(char digit) { return static_cast<char>(digit + 1); }
char Below(char digit) { return static_cast<char>(digit - 1); }

}  // namespace

NodeId DigitRules::Digit(char first, char last) {
  if (first > last) return rules_.Nothing();
  return rules_.Characters(
      CharacterSet::Of({{static_cast<uint32_t>(first), static_cast<uint32_t>(last)}}));
}

NodeId DigitRules::Digits(int64_t minimum, int64_t maximum) {
  return rules_.Repeat(Digit('0', '9'), minimum, maximum);
}

NodeId DigitRules::WholeBetween(const std::string& first, const std::string& last) {
  std::vector<NodeId> options;
  for (size_t length = first.size(); length <= last.size(); ++length) {
    const std::string low = length == first.size() ? first : absl::StrCat("1", std::string(length - 1, '0'));
    const std::string high = length == last.size() ? last : std::string(length, '9');
    if (low <= high) options.push_back(WholeSameLength(low, high));
  }
  return rules_.Alternatives(std::move(options));
}

NodeId DigitRules::WholeSameLength(const std::string& first, const std::string& last) {
  size_t at = 0;
  while (at < first.size() && first[at] == last[at]) ++at;
  const NodeId shared = rules_.Literal(first.substr(0, at));
  if (at == first.size()) return shared;
  const auto rest = static_cast<int64_t>(first.size() - at - 1);
  return rules_.Concat(
      {shared, rules_.Alternatives(
                   {rules_.Concat({Digit(first[at], first[at]), WholeFrom(first, at + 1)}),
                    rules_.Concat({Digit(Above(first[at]), Below(last[at])), Digits(rest, rest)}),
                    rules_.Concat({Digit(last[at], last[at]), WholeTo(last, at + 1)})})});
}

NodeId DigitRules::WholeFrom(const std::string& first, size_t at) {
  if (at == first.size()) return rules_.Empty();
  const auto rest = static_cast<int64_t>(first.size() - at - 1);
  return rules_.Alternatives(
      {rules_.Concat({Digit(first[at], first[at]), WholeFrom(first, at + 1)}),
       rules_.Concat({Digit(Above(first[at]), '9'), Digits(rest, rest)})});
}

NodeId DigitRules::WholeTo(const std::string& last, size_t at) {
  if (at == last.size()) return rules_.Empty();
  const auto rest = static_cast<int64_t>(last.size() - at - 1);
  return rules_.Alternatives(
      {rules_.Concat({Digit(last[at], last[at]), WholeTo(last, at + 1)}),
       rules_.Concat({Digit('0', Below(last[at])), Digits(rest, rest)})});
}

NodeId DigitRules::AnyFraction() { return rules_.Optional(Point(Digits(1, max_fraction_))); }

NodeId DigitRules::FractionFrom(const FractionBound& low) {
  if (low.digits.empty() && !low.is_exclusive) return AnyFraction();
  return Point(From(low, 0));
}

NodeId DigitRules::FractionTo(const FractionBound& high) {
  if (high.digits.empty() && high.is_exclusive) return rules_.Nothing();
  const NodeId first_digit_is_there = high.digits.empty()
                                          ? rules_.Repeat(Digit('0', '0'), 1, max_fraction_)
                                          : To(high, 0);
  return rules_.Optional(Point(first_digit_is_there));
}

NodeId DigitRules::FractionBetween(const FractionBound& low, const FractionBound& high) {
  const bool is_whole_within =
      low.digits.empty() && !low.is_exclusive && !(high.digits.empty() && high.is_exclusive);
  const NodeId with_point = Point(Between(low, high, 0));
  return is_whole_within ? rules_.Optional(with_point) : with_point;
}

// To(high, 0) and Between(.., 0) come behind a point, where one digit at least must stand.
NodeId DigitRules::From(const FractionBound& low, size_t at) {
  if (at >= low.digits.size()) return low.is_exclusive ? MoreThanZero(at) : Rest(at);
  return rules_.Alternatives(
      {rules_.Concat({Digit(low.digits[at], low.digits[at]), From(low, at + 1)}),
       rules_.Concat({Digit(Above(low.digits[at]), '9'), Rest(at + 1)})});
}

NodeId DigitRules::To(const FractionBound& high, size_t at) {
  if (at >= high.digits.size()) return high.is_exclusive ? rules_.Nothing() : Zeros(at);
  const char digit = high.digits[at];
  std::vector<NodeId> options = {rules_.Concat({Digit(digit, digit), To(high, at + 1)}),
                                 rules_.Concat({Digit('0', Below(digit)), Rest(at + 1)})};
  if (at > 0) options.push_back(rules_.Empty());  // what is left of the bound is not zero
  return rules_.Alternatives(std::move(options));
}

NodeId DigitRules::Between(const FractionBound& low, const FractionBound& high, size_t at) {
  const bool low_is_used_up = at >= low.digits.size();
  const bool high_is_used_up = at >= high.digits.size();
  if (low_is_used_up && high_is_used_up) {
    if (low.is_exclusive || high.is_exclusive) return rules_.Nothing();
    return at == 0 ? rules_.Repeat(Digit('0', '0'), 1, max_fraction_) : Zeros(at);
  }
  const char from = DigitAt(low, at);
  const char to = DigitAt(high, at);
  std::vector<NodeId> options;
  if (from == to) {
    options.push_back(rules_.Concat({Digit(from, from), Between(low, high, at + 1)}));
  } else if (from < to) {
    options.push_back(rules_.Concat({Digit(from, from), From(low, at + 1)}));
    options.push_back(rules_.Concat({Digit(Above(from), Below(to)), Rest(at + 1)}));
    options.push_back(rules_.Concat({Digit(to, to), To(high, at + 1)}));
  }
  // Ending here is the lower bound itself, below the rest of the upper one.
  if (at > 0 && low_is_used_up && !low.is_exclusive) options.push_back(rules_.Empty());
  return rules_.Alternatives(std::move(options));
}

NodeId DigitRules::MoreThanZero(size_t at) {
  if (static_cast<int64_t>(at) >= max_fraction_) return rules_.Nothing();
  return rules_.Alternatives({rules_.Concat({Digit('0', '0'), MoreThanZero(at + 1)}),
                              rules_.Concat({Digit('1', '9'), Rest(at + 1)})});
}

NodeId DigitRules::Zeros(size_t at) {
  return rules_.Repeat(Digit('0', '0'), 0, max_fraction_ - static_cast<int64_t>(at));
}

}  // namespace tessera::coordinator::grammar
