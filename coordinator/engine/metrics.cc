#include "coordinator/engine/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <map>

#include "absl/base/thread_annotations.h"
#include "proto/base/mutex.h"

namespace tessera::coordinator {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using Buckets = Histogram::BucketBoundaries;
using Labels = std::map<std::string, std::string>;

// vLLM's, in seconds.
const Buckets& FirstTokenBuckets() {
  static const Buckets buckets = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                  0.25,  0.5,   0.75, 1.0,  2.5,  5.0,  7.5,  10.0,
                                  20.0,  40.0,  80.0, 160.0, 640.0, 2560.0};
  return buckets;
}
const Buckets& InterTokenBuckets() {
  static const Buckets buckets = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
                                  0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
  return buckets;
}
const Buckets& RequestBuckets() {
  static const Buckets buckets = {0.3,  0.5,  0.8,  1.0,  1.5,  2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
                                  30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
  return buckets;
}

class MetricsImpl final : public Metrics {
 public:
  void SetModel(const std::string& name) override;
  void FirstToken(absl::Duration since_arrival) override {
    Current().first_token->Observe(absl::ToDoubleSeconds(since_arrival));
  }
  void InterToken(absl::Duration since_last) override {
    Current().inter_token->Observe(absl::ToDoubleSeconds(since_last));
  }
  void RequestEnded(const EndedRequest& request) override;
  void BeginGroup(int group) override;
  void SchedulerState(int group, const SchedulerStats& stats) override;
  void RankTimes(int group, int world_rank, const v1::StepTimes& times) override;
  void GroupLost() override { groups_lost_.Increment(); }
  void RequestsMoved(int count) override { requests_moved_.Increment(count); }
  std::string Serialize() const override {
    return prometheus::TextSerializer().Serialize(registry_.Collect());
  }

 private:
  // The time series of one model_name. They stay when another model is served.
  struct Series {
    Labels labels;
    Histogram* first_token;
    Histogram* inter_token;
    Histogram* end_to_end;
    Histogram* queued;
    Counter* prompt_tokens;
    Counter* generation_tokens;
  };
  // What the group at one place has told in its life so far.
  struct Told {
    SchedulerStats stats;
    std::map<int, v1::StepTimes> times;  // by rank
  };

  Family<Gauge>& GaugeFamily(const std::string& name, const std::string& help) {
    return prometheus::BuildGauge().Name("tessera_" + name).Help(help).Register(registry_);
  }
  Family<Counter>& CounterFamily(const std::string& name, const std::string& help) {
    return prometheus::BuildCounter().Name("tessera_" + name).Help(help).Register(registry_);
  }
  Family<Histogram>& HistogramFamily(const std::string& name, const std::string& help) {
    return prometheus::BuildHistogram().Name("tessera_" + name).Help(help).Register(registry_);
  }
  Series& AddSeries(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Series& Current();

  Mutex mu_;
  Series* current_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::string model_ ABSL_GUARDED_BY(mu_);
  bool has_model_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::string, Series> series_ ABSL_GUARDED_BY(mu_);  // by model name
  std::map<int, Told> told_ ABSL_GUARDED_BY(mu_);              // by the group's place

  prometheus::Registry registry_;
  Family<Gauge>& running_ = GaugeFamily("num_requests_running", "Requests being computed.");
  Family<Gauge>& waiting_ = GaugeFamily("num_requests_waiting", "Requests in the queue.");
  Family<Gauge>& kv_usage_ =
      GaugeFamily("kv_cache_usage_perc", "KV cache blocks in use. 1 means 100 percent.");
  Family<Histogram>& first_token_ =
      HistogramFamily("time_to_first_token_seconds", "From arrival to the first token.");
  Family<Histogram>& inter_token_ =
      HistogramFamily("inter_token_latency_seconds", "Between two tokens of a request.");
  Family<Histogram>& end_to_end_ =
      HistogramFamily("e2e_request_latency_seconds", "From arrival to the last token.");
  Family<Histogram>& queued_ =
      HistogramFamily("request_queue_time_seconds", "From arrival to the first step.");
  Family<Counter>& prompt_tokens_ =
      CounterFamily("prompt_tokens_total", "Prompt tokens of ended requests.");
  Family<Counter>& generation_tokens_ =
      CounterFamily("generation_tokens_total", "Generated tokens of ended requests.");
  Family<Counter>& preemptions_ =
      CounterFamily("num_preemptions_total", "Requests preempted to be computed again.");
  Family<Counter>& prefix_queries_ =
      CounterFamily("prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.");
  Family<Counter>& prefix_hits_ =
      CounterFamily("prefix_cache_hits_total", "Prompt tokens found in the prefix cache.");
  Family<Counter>& rank_seconds_ = CounterFamily(
      "rank_step_seconds_total",
      "Where a rank's time goes: computing, waiting for other ranks, transferring, idle.");
  Family<Counter>& rank_late_ = CounterFamily(
      "rank_late_seconds_total", "What the other ranks of its stage waited for this one alone.");
  Family<Counter>& rank_steps_ = CounterFamily("rank_steps_total", "Steps that a rank has run.");
  Family<Counter>& success_ =
      CounterFamily("request_success_total", "Requests that ended well, by why they ended.");
  Family<Counter>& failed_ =
      CounterFamily("request_failed_total", "Requests refused or failed, by status code.");
  Counter& groups_lost_ =
      CounterFamily("groups_lost_total", "Worker groups that served and are gone.").Add({});
  Counter& requests_moved_ =
      CounterFamily("requests_moved_total", "Requests that other groups go on with.").Add({});
};

MetricsImpl::Series& MetricsImpl::AddSeries(const std::string& name) {
  const Labels labels = {{"model_name", name}};
  for (const char* reason : {"stop", "length"}) {
    success_.Add({{"model_name", name}, {"finished_reason", reason}});
  }
  Series& series = series_[name];
  series = {.labels = labels,
            .first_token = &first_token_.Add(labels, FirstTokenBuckets()),
            .inter_token = &inter_token_.Add(labels, InterTokenBuckets()),
            .end_to_end = &end_to_end_.Add(labels, RequestBuckets()),
            .queued = &queued_.Add(labels, RequestBuckets()),
            .prompt_tokens = &prompt_tokens_.Add(labels),
            .generation_tokens = &generation_tokens_.Add(labels)};
  return series;
}

MetricsImpl::Series& MetricsImpl::Current() {
  MutexLock lock(&mu_);
  if (current_ == nullptr) current_ = &AddSeries("");  // refused before any group joined
  return *current_;
}

void MetricsImpl::SetModel(const std::string& name) {
  MutexLock lock(&mu_);
  const auto found = series_.find(name);
  current_ = found != series_.end() ? &found->second : &AddSeries(name);
  model_ = name;
  has_model_ = true;
}

void MetricsImpl::RequestEnded(const EndedRequest& request) {
  Series& series = Current();
  series.prompt_tokens->Increment(request.prompt_tokens);
  series.generation_tokens->Increment(request.generation_tokens);
  Labels labels = series.labels;
  if (request.code != absl::StatusCode::kOk) {
    labels["code"] = absl::StatusCodeToString(request.code);
    failed_.Add(labels).Increment();
    return;
  }
  series.end_to_end->Observe(absl::ToDoubleSeconds(request.end_to_end));
  series.queued->Observe(absl::ToDoubleSeconds(request.queued));
  labels["finished_reason"] = request.finish_reason;
  success_.Add(labels).Increment();
}

void MetricsImpl::BeginGroup(int group) {
  MutexLock lock(&mu_);
  told_[group] = {};
}

void Grow(Counter& counter, int64_t from, int64_t to) {
  if (to > from) counter.Increment(static_cast<double>(to - from));
}

void GrowSeconds(Counter& counter, int64_t from_micros, int64_t to_micros) {
  if (to_micros > from_micros) {
    counter.Increment(static_cast<double>(to_micros - from_micros) / 1e6);
  }
}

void MetricsImpl::SchedulerState(int group, const SchedulerStats& stats) {
  MutexLock lock(&mu_);
  if (!has_model_) return;
  const Labels labels = {{"group", std::to_string(group)}, {"model_name", model_}};
  const int used = stats.blocks_total - stats.blocks_free;
  running_.Add(labels).Set(stats.running);
  waiting_.Add(labels).Set(stats.waiting);
  kv_usage_.Add(labels).Set(
      stats.blocks_total > 0 ? static_cast<double>(used) / stats.blocks_total : 0.0);
  SchedulerStats& last = told_[group].stats;
  Grow(preemptions_.Add(labels), last.preemptions, stats.preemptions);
  Grow(prefix_queries_.Add(labels), last.prefix_queries, stats.prefix_queries);
  Grow(prefix_hits_.Add(labels), last.prefix_hits, stats.prefix_hits);
  last = stats;
}

void MetricsImpl::RankTimes(int group, int world_rank, const v1::StepTimes& times) {
  MutexLock lock(&mu_);
  v1::StepTimes& last = told_[group].times[world_rank];
  const Labels labels = {{"group", std::to_string(group)}, {"rank", std::to_string(world_rank)}};
  const auto phase = [&](const char* name) -> Counter& {
    Labels with_phase = labels;
    with_phase["phase"] = name;
    return rank_seconds_.Add(with_phase);
  };
  GrowSeconds(phase("computing"), last.computing_micros(), times.computing_micros());
  GrowSeconds(phase("waiting"), last.waiting_micros(), times.waiting_micros());
  GrowSeconds(phase("transferring"), last.transferring_micros(), times.transferring_micros());
  GrowSeconds(phase("idle"), last.idle_micros(), times.idle_micros());
  GrowSeconds(rank_late_.Add(labels), last.late_micros(), times.late_micros());
  Grow(rank_steps_.Add(labels), last.steps(), times.steps());
  last = times;
}

}  // namespace

std::unique_ptr<Metrics> Metrics::Create() { return std::make_unique<MetricsImpl>(); }

}  // namespace tessera::coordinator
