// The numbers that a field or a flag takes.
//
//   constexpr Range kPorts = {.lowest = 0, .highest = 65535};
//   if (!kPorts.Contains(port)) return Refuse(absl::StrCat("expected ", RangeText(kPorts)));
#ifndef TESSERA_PROTO_BASE_RANGE_H_
#define TESSERA_PROTO_BASE_RANGE_H_

#include <string>

namespace tessera {

struct Range {
  double lowest = 0;
  double highest = 0;
  bool above_lowest = false;  // the lowest itself is out

  // False for NaN, for which every comparison is.
  constexpr bool Contains(double value) const {
    return (above_lowest ? value > lowest : value >= lowest) && value <= highest;
  }
};

// "0 .. 65535", "more than 0 .. 1".
std::string RangeText(const Range& range);

// Whole numbers with all their digits; "NaN".
std::string NumberText(double value);

}  // namespace tessera

#endif  // TESSERA_PROTO_BASE_RANGE_H_
