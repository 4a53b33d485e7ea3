// The names, labels and numbers of /metrics, in Prometheus' text format.
#include "coordinator/engine/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace tessera::coordinator {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

EndedRequest Ended(absl::StatusCode code, int prompt_tokens, int generation_tokens) {
  EndedRequest request;
  request.code = code;
  if (code == absl::StatusCode::kOk) request.finish_reason = "length";
  request.prompt_tokens = prompt_tokens;
  request.generation_tokens = generation_tokens;
  return request;
}

TEST(MetricsTest, AnEndedRequestIsCountedUnderItsModel) {
  auto metrics = Metrics::Create();
  metrics->SetModel("tiny");
  metrics->FirstToken(absl::Milliseconds(61));
  metrics->InterToken(absl::Milliseconds(30));
  metrics->RequestEnded({.finish_reason = "stop",
                         .end_to_end = absl::Seconds(2),
                         .queued = absl::Milliseconds(400),
                         .prompt_tokens = 12,
                         .generation_tokens = 34});
  const std::string text = metrics->Serialize();
  for (const char* line : {
           "# TYPE tessera_time_to_first_token_seconds histogram",
           "tessera_time_to_first_token_seconds_count{model_name=\"tiny\"} 1\n",
           "tessera_time_to_first_token_seconds_bucket{model_name=\"tiny\",le=\"0.06\"} 0\n",
           "tessera_time_to_first_token_seconds_bucket{model_name=\"tiny\",le=\"0.08\"} 1\n",
           "tessera_time_to_first_token_seconds_bucket{model_name=\"tiny\",le=\"2560\"} 1\n",
           "tessera_inter_token_latency_seconds_bucket{model_name=\"tiny\",le=\"0.025\"} 0\n",
           "tessera_inter_token_latency_seconds_bucket{model_name=\"tiny\",le=\"0.05\"} 1\n",
           "tessera_e2e_request_latency_seconds_sum{model_name=\"tiny\"} 2\n",
           "tessera_e2e_request_latency_seconds_bucket{model_name=\"tiny\",le=\"1.5\"} 0\n",
           "tessera_request_queue_time_seconds_bucket{model_name=\"tiny\",le=\"0.3\"} 0\n",
           "tessera_request_queue_time_seconds_bucket{model_name=\"tiny\",le=\"0.5\"} 1\n",
           "# TYPE tessera_prompt_tokens_total counter",
           "tessera_prompt_tokens_total{model_name=\"tiny\"} 12\n",
           "tessera_generation_tokens_total{model_name=\"tiny\"} 34\n",
           "tessera_request_success_total{finished_reason=\"stop\",model_name=\"tiny\"} 1\n",
           "tessera_request_success_total{finished_reason=\"length\",model_name=\"tiny\"} 0\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(MetricsTest, WhereARanksTimeGoesKeepsGrowingOverTheNextGroup) {
  auto metrics = Metrics::Create();
  const auto report = [&](int64_t steps, int64_t computing, int64_t waiting) {
    v1::StepTimes times;
    times.set_steps(steps);
    times.set_computing_micros(computing);
    times.set_waiting_micros(waiting);
    times.set_late_micros(waiting * 2);
    metrics->RankTimes(0, 1, times);
  };
  report(10, 2'000'000, 500'000);
  report(14, 3'000'000, 750'000);
  metrics->BeginGroup(0);
  report(20, 4'000'000, 750'000);  // of the next group, which has done more than the last one
  const std::string text = metrics->Serialize();
  for (const char* line : {
           "# TYPE tessera_rank_step_seconds_total counter",
           "tessera_rank_step_seconds_total{group=\"0\",phase=\"computing\",rank=\"1\"} 7\n",
           "tessera_rank_step_seconds_total{group=\"0\",phase=\"waiting\",rank=\"1\"} 1.5\n",
           "tessera_rank_step_seconds_total{group=\"0\",phase=\"idle\",rank=\"1\"} 0\n",
           "tessera_rank_late_seconds_total{group=\"0\",rank=\"1\"} 3\n",
           "tessera_rank_steps_total{group=\"0\",rank=\"1\"} 34\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(MetricsTest, AFailedRequestIsCountedByCodeAndNotTimed) {
  auto metrics = Metrics::Create();
  metrics->SetModel("tiny");
  metrics->RequestEnded(Ended(absl::StatusCode::kResourceExhausted, 3, 0));
  metrics->RequestEnded(Ended(absl::StatusCode::kResourceExhausted, 0, 0));
  metrics->RequestEnded(Ended(absl::StatusCode::kCancelled, 0, 5));
  const std::string text = metrics->Serialize();
  EXPECT_THAT(
      text, HasSubstr("tessera_request_failed_total{code=\"RESOURCE_EXHAUSTED\",model_name=\"tiny\"} 2\n"));
  EXPECT_THAT(text,
              HasSubstr("tessera_request_failed_total{code=\"CANCELLED\",model_name=\"tiny\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tessera_prompt_tokens_total{model_name=\"tiny\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("tessera_generation_tokens_total{model_name=\"tiny\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("tessera_e2e_request_latency_seconds_count{model_name=\"tiny\"} 0\n"));
}

TEST(MetricsTest, TheSchedulersStateBecomesGaugesAndCounters) {
  auto metrics = Metrics::Create();
  metrics->SetModel("tiny");
  SchedulerStats stats;
  stats.running = 3;
  stats.waiting = 7;
  stats.blocks_total = 200;
  stats.blocks_free = 150;
  stats.preemptions = 2;
  stats.prefix_queries = 100;
  stats.prefix_hits = 40;
  stats.steps = 10;
  metrics->SchedulerState(0, stats);
  const std::string text = metrics->Serialize();
  for (const char* line : {"tessera_num_requests_running{group=\"0\",model_name=\"tiny\"} 3\n",
                           "tessera_num_requests_waiting{group=\"0\",model_name=\"tiny\"} 7\n",
                           "tessera_kv_cache_usage_perc{group=\"0\",model_name=\"tiny\"} 0.25\n",
                           "tessera_num_preemptions_total{group=\"0\",model_name=\"tiny\"} 2\n",
                           "tessera_prefix_cache_queries_total{group=\"0\",model_name=\"tiny\"} 100\n",
                           "tessera_prefix_cache_hits_total{group=\"0\",model_name=\"tiny\"} 40\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(MetricsTest, CountersGoOnGrowingOverTheNextGroupsLife) {
  auto metrics = Metrics::Create();
  metrics->SetModel("tiny");
  SchedulerStats stats;
  stats.steps = 10;
  stats.preemptions = 5;
  metrics->SchedulerState(0, stats);
  metrics->SchedulerState(0, stats);  // nothing new
  EXPECT_THAT(metrics->Serialize(), HasSubstr("tessera_num_preemptions_total{group=\"0\",model_name=\"tiny\"} 5\n"));
  stats = {};
  metrics->BeginGroup(0);  // the group died; the next one joined
  metrics->SchedulerState(0, stats);
  stats.steps = 1;
  stats.preemptions = 1;
  metrics->SchedulerState(0, stats);
  EXPECT_THAT(metrics->Serialize(), HasSubstr("tessera_num_preemptions_total{group=\"0\",model_name=\"tiny\"} 6\n"));
}

TEST(MetricsTest, GroupsSideBySideAreToldApart) {
  auto metrics = Metrics::Create();
  metrics->SetModel("tiny");
  SchedulerStats stats;
  stats.running = 1;
  stats.preemptions = 2;
  metrics->SchedulerState(0, stats);
  stats.running = 3;
  stats.preemptions = 5;
  metrics->SchedulerState(1, stats);
  v1::StepTimes times;
  times.set_steps(4);
  metrics->RankTimes(0, 0, times);
  times.set_steps(9);
  metrics->RankTimes(1, 0, times);
  metrics->BeginGroup(1);  // the other one's counts go on
  times.set_steps(6);
  metrics->RankTimes(0, 0, times);
  const std::string text = metrics->Serialize();
  for (const char* line :
       {"tessera_num_requests_running{group=\"0\",model_name=\"tiny\"} 1\n",
        "tessera_num_requests_running{group=\"1\",model_name=\"tiny\"} 3\n",
        "tessera_num_preemptions_total{group=\"1\",model_name=\"tiny\"} 5\n",
        "tessera_rank_steps_total{group=\"0\",rank=\"0\"} 6\n",
        "tessera_rank_steps_total{group=\"1\",rank=\"0\"} 9\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(MetricsTest, WithoutAGroupThereIsNothingToShow) {
  auto metrics = Metrics::Create();
  EXPECT_THAT(metrics->Serialize(), Not(HasSubstr("model_name")));
  metrics->SchedulerState(0, {});
  EXPECT_THAT(metrics->Serialize(), Not(HasSubstr("model_name")));
  metrics->RequestEnded(Ended(absl::StatusCode::kUnavailable, 0, 0));
  EXPECT_THAT(metrics->Serialize(),
              HasSubstr("tessera_request_failed_total{code=\"UNAVAILABLE\",model_name=\"\"} 1\n"));
}

TEST(MetricsTest, ManyThreadsRecordWhileOneReads) {
  auto metrics = Metrics::Create();
  metrics->SetModel("tiny");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        metrics->InterToken(absl::Milliseconds(i));
        metrics->RequestEnded(Ended(absl::StatusCode::kOk, 0, 1));
      }
    });
  }
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(metrics->Serialize().empty());
  for (std::thread& thread : threads) thread.join();
  const std::string text = metrics->Serialize();
  EXPECT_THAT(text, HasSubstr("tessera_inter_token_latency_seconds_count{model_name=\"tiny\"} 4000\n"));
  EXPECT_THAT(text, HasSubstr("tessera_generation_tokens_total{model_name=\"tiny\"} 4000\n"));
}

}  // namespace
}  // namespace tessera::coordinator
