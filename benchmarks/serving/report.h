// From what was seen of each request to the figures that people compare, named as vLLM's
// benchmark_serving names them. Pure.
//
//   TTFT  time to first token: request sent → first piece of text
//   TPOT  time per output token after the first: (E2EL - TTFT) / (output tokens - 1), per request
//   ITL   inter-token latency: between two pieces of text of one answer, all gaps of all answers
//   E2EL  end-to-end latency: request sent → last piece of text
//   goodput  answered requests per second that met every bound
#ifndef TESSERA_BENCHMARKS_SERVING_REPORT_H_
#define TESSERA_BENCHMARKS_SERVING_REPORT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/types/span.h"
#include "benchmarks/serving/request_record.h"
#include "benchmarks/serving/statistics.h"
#include "benchmarks/serving/workload.h"

namespace tessera::benchmarks {

// The samples behind the figures, in milliseconds.
struct Latencies {
  std::vector<double> ttft_ms, tpot_ms, itl_ms, e2el_ms;
};

struct WorkloadReport {
  std::string name;
  int completed = 0;
  std::map<std::string, int> failures;  // by kind: request_record.h
  double duration_s = 0.0;              // first request sent → last one ended
  int64_t prompt_tokens = 0;            // of completed requests, as the rest
  int64_t cached_tokens = 0;
  int64_t output_tokens = 0;
  int without_usage = 0;  // requests whose tokens were not counted by the server
  Latencies latencies;
  Summary ttft_ms, tpot_ms, itl_ms, e2el_ms;
  double request_throughput = 0.0;  // per second, as the next two
  double output_throughput = 0.0;
  double total_token_throughput = 0.0;
  std::optional<double> goodput;  // per second, when bounds were given
};

WorkloadReport MakeReport(const std::string& name, absl::Span<const RequestRecord> records,
                          const std::optional<Goodput>& bounds);

// One report per workload in order; with several, one of all ("all") at the end.
std::vector<WorkloadReport> MakeReports(const std::vector<Workload>& workloads,
                                        const std::vector<RequestRecord>& records,
                                        const std::optional<Goodput>& bounds);

std::string ReportTable(const std::vector<WorkloadReport>& reports);

// {"completed": .., "failures": {..}, "ttft_ms": {"mean": .., "p50": .., ..}, ..}; no samples of a
// kind: null.
nlohmann::json ReportToJson(const WorkloadReport& report);

// TTFT, ITL and E2EL as cumulative shares, and output tokens per second over time.
std::string ReportSvg(const std::string& title, const std::string& subtitle,
                      const std::vector<Workload>& workloads,
                      const std::vector<RequestRecord>& records,
                      const std::vector<WorkloadReport>& reports);

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_REPORT_H_
