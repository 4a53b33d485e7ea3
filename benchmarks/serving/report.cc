#include "benchmarks/serving/report.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace tessera::benchmarks {
namespace {

using nlohmann::json;

constexpr double kMillis = 1e3;  // per second

struct RequestLatency {
  std::optional<double> ttft_ms;
  std::optional<double> tpot_ms;
  double e2el_ms = 0.0;
};

RequestLatency LatencyOf(const RequestRecord& record) {
  RequestLatency latency;
  const std::vector<double>& times = record.piece_times_s;
  // An answer may be empty: the model ended at once.
  const double last_s = times.empty() ? record.end_s : times.back();
  latency.e2el_ms = (last_s - record.sent_s) * kMillis;
  if (times.empty()) return latency;
  latency.ttft_ms = (times.front() - record.sent_s) * kMillis;
  if (record.output_tokens > 1) {
    latency.tpot_ms = (latency.e2el_ms - *latency.ttft_ms) / (record.output_tokens - 1);
  }
  return latency;
}

bool Meets(const RequestLatency& latency, const Goodput& bounds) {
  return latency.e2el_ms <= bounds.e2el_ms && latency.ttft_ms.value_or(0.0) <= bounds.ttft_ms &&
         latency.tpot_ms.value_or(0.0) <= bounds.tpot_ms;
}

void AddLatencies(const RequestRecord& record, const RequestLatency& latency, Latencies& all) {
  all.e2el_ms.push_back(latency.e2el_ms);
  if (latency.ttft_ms) all.ttft_ms.push_back(*latency.ttft_ms);
  if (latency.tpot_ms) all.tpot_ms.push_back(*latency.tpot_ms);
  for (size_t i = 1; i < record.piece_times_s.size(); ++i) {
    all.itl_ms.push_back((record.piece_times_s[i] - record.piece_times_s[i - 1]) * kMillis);
  }
}

json SummaryToJson(const Summary& summary) {
  if (summary.count == 0) return nullptr;
  return {{"mean", summary.mean}, {"p50", summary.p50}, {"p95", summary.p95},
          {"p99", summary.p99},   {"max", summary.max}, {"count", summary.count}};
}

std::string LatencyRow(const char* name, const Summary& summary) {
  if (summary.count == 0) return absl::StrFormat("  %-10s %42s\n", name, "no samples");
  return absl::StrFormat("  %-10s %10.2f %10.2f %10.2f %10.2f %10.2f\n", name, summary.mean,
                         summary.p50, summary.p95, summary.p99, summary.max);
}

std::string Table(const WorkloadReport& report) {
  std::vector<std::string> failures;
  int failed = 0;
  for (const auto& [kind, count] : report.failures) {
    failures.push_back(absl::StrCat(kind, " ", count));
    failed += count;
  }
  std::string table = absl::StrFormat(
      "%s: %d answered, %d failed%s in %.2f s\n", report.name, report.completed, failed,
      failures.empty() ? "" : absl::StrCat(" (", absl::StrJoin(failures, ", "), ")"),
      report.duration_s);
  absl::StrAppendFormat(&table, "  tokens     %d prompt (%d cached), %d output\n",
                        report.prompt_tokens, report.cached_tokens, report.output_tokens);
  if (report.without_usage > 0) {
    absl::StrAppendFormat(
        &table, "             %d answers without usage: prompt estimated, pieces of text counted\n",
        report.without_usage);
  }
  absl::StrAppendFormat(
      &table, "  throughput %.2f requests/s, %.1f output tokens/s, %.1f tokens/s\n",
      report.request_throughput, report.output_throughput, report.total_token_throughput);
  if (report.goodput)
    absl::StrAppendFormat(&table, "  goodput    %.2f requests/s\n", *report.goodput);
  absl::StrAppendFormat(&table, "  %-10s %10s %10s %10s %10s %10s\n", "ms", "mean", "p50", "p95",
                        "p99", "max");
  return absl::StrCat(table, LatencyRow("TTFT", report.ttft_ms), LatencyRow("TPOT", report.tpot_ms),
                      LatencyRow("ITL", report.itl_ms), LatencyRow("E2EL", report.e2el_ms));
}

}  // namespace

WorkloadReport MakeReport(const std::string& name, absl::Span<const RequestRecord> records,
                          const std::optional<Goodput>& bounds) {
  WorkloadReport report;
  report.name = name;
  if (records.empty()) return report;
  double first_s = records[0].sent_s, last_s = records[0].end_s;
  int good = 0;
  for (const RequestRecord& record : records) {
    first_s = std::min(first_s, record.sent_s);
    last_s = std::max(last_s, record.end_s);
    if (!record.failure.empty()) {
      ++report.failures[record.failure];
      continue;
    }
    const RequestLatency latency = LatencyOf(record);
    AddLatencies(record, latency, report.latencies);
    good += bounds && Meets(latency, *bounds);
    ++report.completed;
    report.without_usage += !record.has_usage;
    report.prompt_tokens += record.prompt_tokens;
    report.cached_tokens += record.cached_tokens;
    report.output_tokens += record.output_tokens;
  }
  report.ttft_ms = Summarize(report.latencies.ttft_ms);
  report.tpot_ms = Summarize(report.latencies.tpot_ms);
  report.itl_ms = Summarize(report.latencies.itl_ms);
  report.e2el_ms = Summarize(report.latencies.e2el_ms);
  report.duration_s = last_s - first_s;
  const auto per_second = [&](double count) {
    return report.duration_s > 0.0 ? count / report.duration_s : 0.0;
  };
  report.request_throughput = per_second(report.completed);
  report.output_throughput = per_second(static_cast<double>(report.output_tokens));
  report.total_token_throughput =
      per_second(static_cast<double>(report.prompt_tokens + report.output_tokens));
  if (bounds) report.goodput = per_second(good);
  return report;
}

std::vector<WorkloadReport> MakeReports(const std::vector<Workload>& workloads,
                                        const std::vector<RequestRecord>& records,
                                        const std::optional<Goodput>& bounds) {
  std::vector<WorkloadReport> reports;
  for (size_t i = 0; i < workloads.size(); ++i) {
    std::vector<RequestRecord> own;
    for (const RequestRecord& record : records) {
      if (record.workload == static_cast<int>(i)) own.push_back(record);
    }
    reports.push_back(MakeReport(workloads[i].name, own, bounds));
  }
  if (workloads.size() > 1) reports.push_back(MakeReport("all", records, bounds));
  return reports;
}

std::string ReportTable(const std::vector<WorkloadReport>& reports) {
  return absl::StrJoin(reports, "\n", [](std::string* out, const WorkloadReport& report) {
    absl::StrAppend(out, Table(report));
  });
}

nlohmann::json ReportToJson(const WorkloadReport& report) {
  json object = {{"name", report.name},
                 {"completed", report.completed},
                 {"failures", report.failures},
                 {"duration_s", report.duration_s},
                 {"total_input_tokens", report.prompt_tokens},
                 {"total_cached_tokens", report.cached_tokens},
                 {"total_output_tokens", report.output_tokens},
                 {"answers_without_usage", report.without_usage},
                 {"request_throughput", report.request_throughput},
                 {"output_throughput", report.output_throughput},
                 {"total_token_throughput", report.total_token_throughput},
                 {"ttft_ms", SummaryToJson(report.ttft_ms)},
                 {"tpot_ms", SummaryToJson(report.tpot_ms)},
                 {"itl_ms", SummaryToJson(report.itl_ms)},
                 {"e2el_ms", SummaryToJson(report.e2el_ms)}};
  if (report.goodput) object["request_goodput"] = *report.goodput;
  return object;
}

}  // namespace tessera::benchmarks
