#include "benchmarks/serving/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tessera::benchmarks {
namespace {

using ::testing::HasSubstr;

Workload Defaults() {
  Workload workload;
  workload.num_requests = 10;
  return workload;
}

TEST(ParseScenario, FillsFromTheDefaults) {
  Workload defaults = Defaults();
  defaults.request_rate = 5.0;
  defaults.prompt_tokens = "fixed:33";
  const auto workloads = ParseScenario(
      R"({"workloads": [
           {"name": "flood", "tenant": "f", "num_requests": 1000, "headers": {"X-A": "b"}},
           {"concurrency": 2, "start_s": 1.5, "prompt_tokens": "uniform:2-3", "ignore_eos": true,
            "extra_body": {"priority": -1}}]})",
      "s.json", defaults);
  ASSERT_TRUE(workloads.ok()) << workloads.status();
  ASSERT_EQ(workloads->size(), 2u);
  const Workload& flood = (*workloads)[0];
  EXPECT_EQ(flood.name, "flood");
  EXPECT_EQ(flood.tenant, "f");
  EXPECT_EQ(flood.num_requests, 1000);
  EXPECT_EQ(flood.request_rate, 5.0);
  EXPECT_EQ(flood.prompt_tokens, "fixed:33");
  EXPECT_THAT(flood.headers, ::testing::ElementsAre(::testing::Pair("X-A", "b")));
  const Workload& second = (*workloads)[1];
  EXPECT_EQ(second.name, "workload 1");
  EXPECT_EQ(second.num_requests, 10);
  EXPECT_EQ(second.concurrency, 2);
  EXPECT_EQ(second.request_rate, 0.0) << "the named kind of arrival replaces the default's";
  EXPECT_EQ(second.start_s, 1.5);
  EXPECT_TRUE(second.ignore_eos);
  EXPECT_EQ(second.extra_body["priority"], -1);
}

TEST(ParseScenario, WhatItWritesItReads) {
  Workload workload = Defaults();
  workload.name = "x";
  workload.tenant = "t";
  workload.concurrency = 3;
  workload.turns = 4;
  workload.headers = {{"A", "b"}};
  const nlohmann::json scenario = {{"workloads", {WorkloadToJson(workload)}}};
  const auto again = ParseScenario(scenario.dump(), "s", Workload());
  // request_rate 0 and concurrency 3 are both there.
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(WorkloadToJson(again->at(0)), WorkloadToJson(workload));
}

TEST(ParseScenario, ErrorsNameThePlace) {
  struct Case {
    const char *text, *words;
  };
  for (const Case& c : {
           Case{"", "s.json"},
           Case{"{", "s.json"},
           Case{"[]", "workloads"},
           Case{R"({"workloads": []})", "at least one"},
           Case{R"({"workloads": [{}], "goodput": "x"})", "workloads"},
           Case{R"({"workloads": [3]})", "workloads[0]: expected an object"},
           Case{R"({"workloads": [{"nam": "x"}]})", "workloads[0].nam: no such key"},
           Case{R"({"workloads": [{}, {"turns": "3"}]})", "workloads[1].turns: is \"3\""},
           Case{R"({"workloads": [{"turns": 1.5}]})", "turns: is 1.5"},
           Case{R"({"workloads": [{"turns": 0}]})", "turns is 0"},
           Case{R"({"workloads": [{"num_requests": -1}]})", "num_requests: is -1"},
           Case{R"({"workloads": [{"num_requests": 99999999999999999999}]})", "num_requests"},
           Case{R"({"workloads": [{"num_requests": 18446744073709551615}]})", "num_requests"},
           Case{R"({"workloads": [{"num_requests": 0}]})", "num_requests is 0"},
           Case{R"({"workloads": [{"request_rate": -1}]})", "request_rate"},
           Case{R"({"workloads": [{"request_rate": 1, "concurrency": 1}]})", "one kind of arrival"},
           Case{R"({"workloads": [{"endpoint": "embeddings"}]})", "completions or chat"},
           Case{R"({"workloads": [{"prompt_tokens": "many"}]})", "'many'"},
           Case{R"({"workloads": [{"output_tokens": "fixed:0"}]})", "'fixed:0'"},
           Case{R"({"workloads": [{"headers": {"a b": "c"}}]})", "headers"},
           Case{R"({"workloads": [{"headers": {"a": "c\r\nd: e"}}]})", "headers"},
           Case{R"({"workloads": [{"tenant": "a\nb"}]})", "x-tenant-id"},
           Case{R"({"workloads": [{"extra_body": []}]})", "extra_body"},
           Case{R"({"workloads": [{"name": "a"}, {"name": "a"}]})", "workloads[1].name"},
       }) {
    const auto workloads = ParseScenario(c.text, "s.json", Defaults());
    EXPECT_EQ(workloads.status().code(), absl::StatusCode::kInvalidArgument) << c.text;
    EXPECT_THAT(std::string(workloads.status().message()), HasSubstr(c.words)) << c.text;
  }
}

TEST(CheckWorkload, ADurationNeedsAPace) {
  Workload workload;
  workload.duration_s = 3;
  EXPECT_FALSE(CheckWorkload(workload).ok()) << "all at once, for ever";
  workload.concurrency = 1;
  EXPECT_TRUE(CheckWorkload(workload).ok());
  workload.duration_s = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(CheckWorkload(workload).ok());
}

TEST(ParseHeader, TrimsAndRefuses) {
  EXPECT_EQ(*ParseHeader("X-A:  b c "), std::pair(std::string("X-A"), std::string("b c")));
  EXPECT_EQ(*ParseHeader("a:b:c"), std::pair(std::string("a"), std::string("b:c")));
  for (const char* text : {"", "a", ":b", "a b:c", "a:b\nc", "a\r:b"}) {
    EXPECT_FALSE(ParseHeader(text).ok()) << text;
  }
}

TEST(ParseGoodput, TakesAnyOfTheThree) {
  const auto goodput = ParseGoodput("e2el:5000,ttft:500");
  ASSERT_TRUE(goodput.ok());
  EXPECT_EQ(goodput->ttft_ms, 500);
  EXPECT_EQ(goodput->e2el_ms, 5000);
  EXPECT_EQ(goodput->tpot_ms, std::numeric_limits<double>::infinity());
  for (const char* text : {"", "ttft", "ttft:", "ttft:0", "ttft:-1", "ttft:nan", "ttft:inf",
                           "itl:5", "ttft:5,", "ttft:5;tpot:4"}) {
    EXPECT_FALSE(ParseGoodput(text).ok()) << text;
  }
}

}  // namespace
}  // namespace tessera::benchmarks
