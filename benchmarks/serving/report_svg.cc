// Draws what report.cc counts.
#include <algorithm>
#include <cmath>

#include "benchmarks/serving/report.h"
#include "benchmarks/serving/svg_plot.h"

namespace tessera::benchmarks {
namespace {

constexpr size_t kMaxPoints = 400;  // per line
constexpr int kTimeBins = 60;

Panel CumulativePanel(const std::string& title, const std::vector<Workload>& workloads,
                      const std::vector<WorkloadReport>& reports,
                      std::vector<double> Latencies::*samples) {
  Panel panel{.title = title,
              .x_label = "milliseconds",
              .y_label = "share at or below",
              .series = {},
              .steps = true,
              .share = true};
  for (size_t i = 0; i < workloads.size(); ++i) {
    panel.series.push_back(
        {workloads[i].name, CumulativeShare(reports[i].latencies.*samples, kMaxPoints)});
  }
  return panel;
}

// Output tokens per second, by when their text came. An answer's tokens are spread evenly over its
// pieces of text: one piece may carry several.
Panel ThroughputPanel(const std::vector<Workload>& workloads,
                      const std::vector<RequestRecord>& records) {
  Panel panel{.title = "Output throughput",
              .x_label = "seconds since the start",
              .y_label = "output tokens per second",
              .series = {}};
  double end_s = 0.0;
  for (const RequestRecord& record : records) end_s = std::max(end_s, record.end_s);
  const double bin_s = end_s > 0.0 ? end_s / kTimeBins : 1.0;
  for (size_t i = 0; i < workloads.size(); ++i) {
    std::vector<double> tokens(kTimeBins, 0.0);
    bool any = false;
    for (const RequestRecord& record : records) {
      const size_t pieces = record.piece_times_s.size();
      if (record.workload != static_cast<int>(i) || pieces == 0) continue;
      const double each = record.failure.empty() ? static_cast<double>(record.output_tokens) /
                                                       static_cast<double>(pieces)
                                                 : 1.0;
      for (double time_s : record.piece_times_s) {
        tokens[std::clamp(static_cast<int>(time_s / bin_s), 0, kTimeBins - 1)] += each;
      }
      any = true;
    }
    Series series{workloads[i].name, {}};
    for (int bin = 0; any && bin < kTimeBins; ++bin) {
      series.points.emplace_back((bin + 0.5) * bin_s, tokens[bin] / bin_s);
    }
    panel.series.push_back(std::move(series));
  }
  return panel;
}

}  // namespace

std::string ReportSvg(const std::string& title, const std::string& subtitle,
                      const std::vector<Workload>& workloads,
                      const std::vector<RequestRecord>& records,
                      const std::vector<WorkloadReport>& reports) {
  return RenderSvg(
      title, subtitle,
      {CumulativePanel("Time to first token (TTFT)", workloads, reports, &Latencies::ttft_ms),
       CumulativePanel("Inter-token latency (ITL)", workloads, reports, &Latencies::itl_ms),
       CumulativePanel("End-to-end latency (E2EL)", workloads, reports, &Latencies::e2el_ms),
       ThroughputPanel(workloads, records)});
}

}  // namespace tessera::benchmarks
