#include "benchmarks/serving/scale_report.h"

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tessera::benchmarks {

std::string ScaleReport::Table() const {
  size_t width = 0;
  for (const ScaleRow& row : rows_) width = std::max(width, row.what.size());
  std::string table = absl::StrFormat("%-*s %12s %-9s %10s %8s\n", static_cast<int>(width), "",
                                      "measured", "", "goal", "ratio");
  for (const ScaleRow& row : rows_) {
    absl::StrAppendFormat(&table, "%-*s %12.1f %-9s", static_cast<int>(width), row.what,
                          row.measured, row.unit);
    if (row.goal > 0) {
      absl::StrAppendFormat(&table, " %10s %8.2f", absl::StrCat("<= ", row.goal),
                            row.measured / row.goal);
    }
    table += "\n";
  }
  return table;
}

std::string ScaleReport::Json() const {
  nlohmann::json rows = nlohmann::json::array();
  for (const ScaleRow& row : rows_) {
    nlohmann::json object = {{"what", row.what}, {"measured", row.measured}, {"unit", row.unit}};
    if (row.goal > 0) {
      object["goal"] = row.goal;
      object["ratio"] = row.measured / row.goal;
    }
    rows.push_back(object);
  }
  return rows.dump(2) + "\n";
}

}  // namespace tessera::benchmarks
