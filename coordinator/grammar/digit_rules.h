// Digit strings between others: the part of number_rules.h that compares digit by digit.
#ifndef TESSERA_COORDINATOR_GRAMMAR_DIGIT_RULES_H_
#define TESSERA_COORDINATOR_GRAMMAR_DIGIT_RULES_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "coordinator/grammar/rules.h"

namespace tessera::coordinator::grammar {

// 0.<digits>; no digits: zero. Without trailing zeros.
struct FractionBound {
  std::string digits;
  bool is_exclusive = false;
};

class DigitRules {
 public:
  // max_fraction: digits behind the point, at least those of any bound.
  explicit DigitRules(Rules& rules, int64_t max_fraction = 0)
      : rules_(rules), max_fraction_(max_fraction) {}

  // Whole numbers first .. last, digits without leading zeros. Nothing when first > last.
  NodeId WholeBetween(const std::string& first, const std::string& last);

  // Empty, or a point and 1 .. max_fraction digits, so that 0.<digits> lies within.
  NodeId AnyFraction();
  NodeId FractionFrom(const FractionBound& low);
  NodeId FractionTo(const FractionBound& high);
  NodeId FractionBetween(const FractionBound& low, const FractionBound& high);

 private:
  NodeId Digit(char first, char last);  // Nothing when first > last
  NodeId Digits(int64_t minimum, int64_t maximum);
  NodeId Point(NodeId digits) { return rules_.Concat({rules_.Literal("."), digits}); }

  // What may follow once the first `at` digits equal the bound's. Of the same length:
  NodeId WholeSameLength(const std::string& first, const std::string& last);
  NodeId WholeFrom(const std::string& first, size_t at);
  NodeId WholeTo(const std::string& last, size_t at);
  // Behind the point, possibly nothing:
  NodeId From(const FractionBound& low, size_t at);
  NodeId To(const FractionBound& high, size_t at);
  NodeId Between(const FractionBound& low, const FractionBound& high, size_t at);
  NodeId MoreThanZero(size_t at);
  // Up to max_fraction digits in all, of which `at` are there.
  NodeId Rest(size_t at) { return Digits(0, max_fraction_ - static_cast<int64_t>(at)); }
  NodeId Zeros(size_t at);

  Rules& rules_;
  const int64_t max_fraction_;
};

}  // namespace tessera::coordinator::grammar

#endif  // TESSERA_COORDINATOR_GRAMMAR_DIGIT_RULES_H_
