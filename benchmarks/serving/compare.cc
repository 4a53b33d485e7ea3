#include "benchmarks/serving/compare.h"

#include <optional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/base/status_macros.h"

namespace tessera::benchmarks {
namespace {

using nlohmann::json;

absl::StatusOr<std::vector<json>> ReadReports(absl::string_view text, absl::string_view name) {
  const json root = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  std::vector<json> reports;
  if (root.is_object() && root.contains("workloads") && root["workloads"].is_array()) {
    for (const json& report : root["workloads"]) {
      if (report.is_object() && report.contains("name") && report["name"].is_string()) {
        reports.push_back(report);
      }
    }
  }
  if (!reports.empty()) return reports;
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": no report of this program's --json (no \"workloads\" with names)"));
}

std::vector<std::pair<json, json>> Pair(const std::vector<json>& a, const std::vector<json>& b) {
  if (a.size() == 1 && b.size() == 1) return {{a[0], b[0]}};
  std::vector<std::pair<json, json>> pairs;
  for (const json& from_a : a) {
    for (const json& from_b : b) {
      if (from_a["name"] == from_b["name"]) pairs.emplace_back(from_a, from_b);
    }
  }
  return pairs;
}

// The number at "key" or "key/part"; none when missing, null or of another type.
std::optional<double> Figure(const json& report, const char* key, const char* part) {
  if (!report.contains(key)) return std::nullopt;
  const json* value = &report[key];
  if (part != nullptr) {
    if (!value->is_object() || !value->contains(part)) return std::nullopt;
    value = &(*value)[part];
  }
  if (!value->is_number()) return std::nullopt;
  return value->get<double>();
}

void AppendRow(const std::pair<json, json>& reports, const std::string& label, const char* key,
               const char* part, std::string& table) {
  const std::optional<double> a = Figure(reports.first, key, part);
  const std::optional<double> b = Figure(reports.second, key, part);
  if (!a && !b) return;
  const auto cell = [](const std::optional<double>& value) {
    return value ? absl::StrFormat("%.2f", *value) : std::string("-");
  };
  const std::string ratio = a && b && *a != 0.0 ? absl::StrFormat("%.3f", *b / *a) : "-";
  absl::StrAppendFormat(&table, "  %-24s %12s %12s %9s\n", label, cell(a), cell(b), ratio);
}

}  // namespace

absl::StatusOr<std::string> CompareReports(absl::string_view a, absl::string_view a_name,
                                           absl::string_view b, absl::string_view b_name) {
  TESSERA_ASSIGN_OR_RETURN(const std::vector<json> reports_a, ReadReports(a, a_name));
  TESSERA_ASSIGN_OR_RETURN(const std::vector<json> reports_b, ReadReports(b, b_name));
  const auto pairs = Pair(reports_a, reports_b);
  if (pairs.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(a_name, " and ", b_name, " have no workload of one name"));
  }
  std::string table = absl::StrCat("A = ", a_name, "\nB = ", b_name, "\n");
  for (const auto& pair : pairs) {
    absl::StrAppendFormat(&table, "%s\n  %-24s %12s %12s %9s\n",
                          pair.first["name"].get<std::string>(), "", "A", "B", "B/A");
    AppendRow(pair, "completed", "completed", nullptr, table);
    AppendRow(pair, "requests/s", "request_throughput", nullptr, table);
    AppendRow(pair, "output tokens/s", "output_throughput", nullptr, table);
    AppendRow(pair, "tokens/s", "total_token_throughput", nullptr, table);
    AppendRow(pair, "goodput requests/s", "request_goodput", nullptr, table);
    for (const auto& [label, key] : {std::pair("TTFT", "ttft_ms"), std::pair("TPOT", "tpot_ms"),
                                     std::pair("ITL", "itl_ms"), std::pair("E2EL", "e2el_ms")}) {
      for (const char* part : {"mean", "p50", "p95", "p99", "max"}) {
        AppendRow(pair, absl::StrCat(label, " ", part, " ms"), key, part, table);
      }
    }
  }
  return table;
}

}  // namespace tessera::benchmarks
