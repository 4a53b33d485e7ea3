#include "coordinator/engine/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <map>
#include <mutex>

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
  void SchedulerState(const SchedulerStats& stats) override;
  void RankTimes(int world_rank, const v1::StepTimes& times) override;
  std::string Serialize() const override {
    return prometheus::TextSerializer().Serialize(registry_.Collect());
  }

 private:
  // The time series of one model_name. They stay when another model is served.
  struct Series {
    Labels labels;
    Gauge* running;
    Gauge* waiting;
    Gauge* kv_usage;
    Histogram* first_token;
    Histogram* inter_token;
    Histogram* end_to_end;
    Histogram* queued;
    Counter* prompt_tokens;
    Counter* generation_tokens;
    Counter* preemptions;
    Counter* prefix_queries;
    Counter* prefix_hits;
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
  Series& AddSeries(const std::string& name);
  Series& Current();

  std::mutex mu_;
  Series* current_ = nullptr;
  bool has_model_ = false;
  std::map<std::string, Series> series_;  // by model name
  SchedulerStats last_;                   // of the group's life so far
  std::map<int, v1::StepTimes> last_times_;  // by rank, of its life so far

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
};

MetricsImpl::Series& MetricsImpl::AddSeries(const std::string& name) {
  const Labels labels = {{"model_name", name}};
  for (const char* reason : {"stop", "length"}) {
    success_.Add({{"model_name", name}, {"finished_reason", reason}});
  }
  Series& series = series_[name];
  series = {.labels = labels,
            .running = &running_.Add(labels),
            .waiting = &waiting_.Add(labels),
            .kv_usage = &kv_usage_.Add(labels),
            .first_token = &first_token_.Add(labels, FirstTokenBuckets()),
            .inter_token = &inter_token_.Add(labels, InterTokenBuckets()),
            .end_to_end = &end_to_end_.Add(labels, RequestBuckets()),
            .queued = &queued_.Add(labels, RequestBuckets()),
            .prompt_tokens = &prompt_tokens_.Add(labels),
            .generation_tokens = &generation_tokens_.Add(labels),
            .preemptions = &preemptions_.Add(labels),
            .prefix_queries = &prefix_queries_.Add(labels),
            .prefix_hits = &prefix_hits_.Add(labels)};
  return series;
}

MetricsImpl::Series& MetricsImpl::Current() {
  std::lock_guard<std::mutex> lock(mu_);
  if (current_ == nullptr) current_ = &AddSeries("");  // refused before any group joined
  return *current_;
}

void MetricsImpl::SetModel(const std::string& name) {
  std::lock_guard<std::mutex> lock(mu_);
  const auto found = series_.find(name);
  current_ = found != series_.end() ? &found->second : &AddSeries(name);
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

void MetricsImpl::SchedulerState(const SchedulerStats& stats) {
  std::lock_guard<std::mutex> lock(mu_);
  if (!has_model_) return;
  const bool next_life = stats.steps < last_.steps || stats.preemptions < last_.preemptions ||
                         stats.prefix_queries < last_.prefix_queries ||
                         stats.prefix_hits < last_.prefix_hits;
  if (next_life) last_ = {};
  const int used = stats.blocks_total - stats.blocks_free;
  current_->running->Set(stats.running);
  current_->waiting->Set(stats.waiting);
  current_->kv_usage->Set(stats.blocks_total > 0 ? static_cast<double>(used) / stats.blocks_total
                                                 : 0.0);
  const auto grow = [](Counter* counter, int64_t from, int64_t to) {
    if (to > from) counter->Increment(static_cast<double>(to - from));
  };
  grow(current_->preemptions, last_.preemptions, stats.preemptions);
  grow(current_->prefix_queries, last_.prefix_queries, stats.prefix_queries);
  grow(current_->prefix_hits, last_.prefix_hits, stats.prefix_hits);
  last_ = stats;
}

void MetricsImpl::RankTimes(int world_rank, const v1::StepTimes& times) {
  std::lock_guard<std::mutex> lock(mu_);
  v1::StepTimes& last = last_times_[world_rank];
  if (times.steps() < last.steps()) last.Clear();  // the rank of another group
  const std::string rank = std::to_string(world_rank);
  const auto grow = [&](const char* phase, int64_t from_micros, int64_t to_micros) {
    Counter& counter = rank_seconds_.Add({{"rank", rank}, {"phase", phase}});
    if (to_micros > from_micros) {
      counter.Increment(static_cast<double>(to_micros - from_micros) / 1e6);
    }
  };
  grow("computing", last.computing_micros(), times.computing_micros());
  grow("waiting", last.waiting_micros(), times.waiting_micros());
  grow("transferring", last.transferring_micros(), times.transferring_micros());
  grow("idle", last.idle_micros(), times.idle_micros());
  Counter& late = rank_late_.Add({{"rank", rank}});
  if (times.late_micros() > last.late_micros()) {
    late.Increment(static_cast<double>(times.late_micros() - last.late_micros()) / 1e6);
  }
  rank_steps_.Add({{"rank", rank}}).Increment(static_cast<double>(times.steps() - last.steps()));
  last = times;
}

}  // namespace

std::unique_ptr<Metrics> Metrics::Create() { return std::make_unique<MetricsImpl>(); }

}  // namespace tessera::coordinator
