#include "proto/base/range.h"

#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace tessera {

std::string NumberText(double value) {
  if (std::isnan(value)) return "NaN";
  const bool whole = std::abs(value) < 1e15 && value == std::trunc(value);
  return whole ? absl::StrCat(static_cast<int64_t>(value)) : absl::StrCat(value);
}

std::string RangeText(const Range& range) {
  return absl::StrCat(range.above_lowest ? "more than " : "", NumberText(range.lowest), " .. ",
                      NumberText(range.highest));
}

}  // namespace tessera
