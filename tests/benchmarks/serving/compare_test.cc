#include "benchmarks/serving/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tessera::benchmarks {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(CompareReports, PrintsRatios) {
  const auto table = CompareReports(
      R"({"workloads":[{"name":"a","request_throughput":2,
          "ttft_ms":{"p50":100,"p99":0},"itl_ms":null}]})",
      "on.json",
      R"({"workloads":[{"name":"b","request_throughput":3,
          "ttft_ms":{"p50":30,"p99":7},"itl_ms":null}]})",
      "off.json");
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(*table, HasSubstr("A = on.json"));
  EXPECT_THAT(*table, ContainsRegex("requests/s +2.00 +3.00 +1.500"));
  EXPECT_THAT(*table, ContainsRegex("TTFT p50 ms +100.00 +30.00 +0.300"));
  EXPECT_THAT(*table, ContainsRegex("TTFT p99 ms +0.00 +7.00 +-"));
  EXPECT_THAT(*table, Not(HasSubstr("ITL")));
}

TEST(CompareReports, PairsByName) {
  const char* two = R"({"workloads":[{"name":"a","completed":1},{"name":"b","completed":2}]})";
  const char* other = R"({"workloads":[{"name":"b","completed":4},{"name":"c","completed":9}]})";
  const auto table = CompareReports(two, "A", other, "B");
  ASSERT_TRUE(table.ok());
  EXPECT_THAT(*table, ContainsRegex("completed +2.00 +4.00 +2.000"));
  EXPECT_THAT(*table, Not(HasSubstr("9.00")));
}

TEST(CompareReports, RefusesWhatIsNoReport) {
  const char* good = R"({"workloads":[{"name":"a"}]})";
  for (const char* bad : {"", "[]", "{}", R"({"workloads":3})", R"({"workloads":[{"name":3}]})"}) {
    const auto table = CompareReports(good, "good.json", bad, "bad.json");
    EXPECT_EQ(table.status().code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(table.status().message()), HasSubstr("bad.json"));
  }
  const char* two = R"({"workloads":[{"name":"a"},{"name":"b"}]})";
  const char* strangers = R"({"workloads":[{"name":"c"},{"name":"d"}]})";
  EXPECT_FALSE(CompareReports(two, "A", strangers, "B").ok());
}

}  // namespace
}  // namespace tessera::benchmarks
