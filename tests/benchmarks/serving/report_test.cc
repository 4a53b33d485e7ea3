#include "benchmarks/serving/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace tessera::benchmarks {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

RequestRecord Answered(double sent_s, std::vector<double> times_s, int output_tokens) {
  RequestRecord record;
  record.sent_s = sent_s;
  record.end_s = times_s.empty() ? sent_s + 1.0 : times_s.back() + 0.125;
  record.piece_times_s = std::move(times_s);
  record.has_usage = true;
  record.prompt_tokens = 10;
  record.output_tokens = output_tokens;
  return record;
}

RequestRecord Failed(double sent_s, double end_s, const char* failure) {
  RequestRecord record;
  record.sent_s = sent_s;
  record.end_s = end_s;
  record.failure = failure;
  return record;
}

TEST(MakeReport, LatenciesOfOneAnswer) {
  const RequestRecord record = Answered(1.0, {1.5, 1.75, 2.25}, 5);
  const WorkloadReport report = MakeReport("w", {&record, 1}, std::nullopt);
  EXPECT_EQ(report.completed, 1);
  EXPECT_THAT(report.latencies.ttft_ms, ElementsAre(500));
  EXPECT_THAT(report.latencies.itl_ms, ElementsAre(250, 500));
  EXPECT_THAT(report.latencies.e2el_ms, ElementsAre(1250));
  EXPECT_THAT(report.latencies.tpot_ms, ElementsAre(750.0 / 4)) << "by tokens, not by pieces";
  EXPECT_DOUBLE_EQ(report.duration_s, 1.375);
  EXPECT_DOUBLE_EQ(report.output_throughput, 5 / 1.375);
  EXPECT_DOUBLE_EQ(report.total_token_throughput, 15 / 1.375);
  EXPECT_FALSE(report.goodput);
}

TEST(MakeReport, ShortAnswersHaveNoTimePerToken) {
  const std::vector<RequestRecord> records = {Answered(0, {0.5}, 1), Answered(0, {}, 0)};
  const WorkloadReport report = MakeReport("w", records, Goodput{.tpot_ms = 1});
  EXPECT_EQ(report.completed, 2);
  EXPECT_EQ(report.ttft_ms.count, 1u);
  EXPECT_EQ(report.tpot_ms.count, 0u);
  EXPECT_EQ(report.itl_ms.count, 0u);
  EXPECT_EQ(report.e2el_ms.max, 1000);
  EXPECT_DOUBLE_EQ(*report.goodput, 2.0);
}

TEST(MakeReport, FailuresAreCountedByKindAndGiveNoLatency) {
  const std::vector<RequestRecord> records = {Failed(0, 1, "HTTP 429"), Failed(0, 2, "HTTP 429"),
                                              Failed(0, 4, "timeout"), Answered(0, {0.5, 1}, 2)};
  const WorkloadReport report = MakeReport("w", records, Goodput{.ttft_ms = 600});
  EXPECT_THAT(report.failures, ElementsAre(Pair("HTTP 429", 2), Pair("timeout", 1)));
  EXPECT_EQ(report.completed, 1);
  EXPECT_EQ(report.ttft_ms.count, 1u);
  EXPECT_DOUBLE_EQ(report.duration_s, 4.0);
  EXPECT_DOUBLE_EQ(*report.goodput, 0.25);
}

TEST(MakeReport, NothingAtAll) {
  const WorkloadReport report = MakeReport("w", {}, Goodput{});
  EXPECT_EQ(report.completed, 0);
  EXPECT_EQ(report.duration_s, 0.0);
  EXPECT_THAT(ReportTable({report}), HasSubstr("no samples"));
  EXPECT_TRUE(ReportToJson(report)["ttft_ms"].is_null());
}

TEST(MakeReports, OnePerWorkloadAndOneOfAll) {
  std::vector<Workload> workloads(2);
  workloads[0].name = "flood";
  workloads[1].name = "quiet";
  std::vector<RequestRecord> records = {Answered(0, {0.5}, 1), Answered(0, {1.0}, 1),
                                        Answered(0, {2.0}, 1)};
  records[2].workload = 1;
  const auto reports = MakeReports(workloads, records, std::nullopt);
  ASSERT_EQ(reports.size(), 3u);
  EXPECT_EQ(reports[0].completed, 2);
  EXPECT_EQ(reports[1].ttft_ms.p50, 2000);
  EXPECT_EQ(reports[2].name, "all");
  EXPECT_EQ(reports[2].completed, 3);
  const std::string table = ReportTable(reports);
  for (const char* words : {"flood: 2 answered", "quiet: 1 answered", "all: 3 answered"}) {
    EXPECT_THAT(table, HasSubstr(words));
  }
}

TEST(ReportToJson, HasTheFigures) {
  const std::vector<RequestRecord> records = {Answered(0, {0.5, 0.75}, 2),
                                              Failed(0, 1, "HTTP 503")};
  const nlohmann::json json = ReportToJson(MakeReport("w", records, Goodput{.ttft_ms = 1}));
  EXPECT_EQ(json["name"], "w");
  EXPECT_EQ(json["completed"], 1);
  EXPECT_EQ(json["failures"]["HTTP 503"], 1);
  EXPECT_EQ(json["ttft_ms"]["p50"], 500);
  EXPECT_EQ(json["ttft_ms"]["count"], 1);
  EXPECT_EQ(json["itl_ms"]["max"], 250);
  EXPECT_EQ(json["request_goodput"], 0.0);
  EXPECT_EQ(json["total_output_tokens"], 2);
}

TEST(ReportSvg, DrawsOneLinePerWorkloadAndSurvivesNothing) {
  std::vector<Workload> workloads(2);
  workloads[1].name = "<quiet>";
  std::vector<RequestRecord> records = {Answered(0, {0.5, 0.7}, 4), Failed(0, 1, "timeout")};
  records[1].workload = 1;
  const auto reports = MakeReports(workloads, records, std::nullopt);
  const std::string svg = ReportSvg("t", "s", workloads, records, reports);
  EXPECT_THAT(svg, HasSubstr("&lt;quiet&gt;"));
  EXPECT_THAT(svg, HasSubstr("Time to first token (TTFT)"));
  EXPECT_THAT(svg, HasSubstr("output tokens per second"));
  const std::string empty =
      ReportSvg("t", "s", workloads, {}, MakeReports(workloads, {}, std::nullopt));
  EXPECT_THAT(empty, HasSubstr("no samples"));
}

}  // namespace
}  // namespace tessera::benchmarks
