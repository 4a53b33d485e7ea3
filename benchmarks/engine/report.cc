#include "benchmarks/engine/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "worker/model/shard_slices.h"

namespace tessera::worker {
namespace {

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace

int64_t WeightBytesPerToken(const v1::ModelDescription& model, const v1::ShardPlan& plan) {
  const bool tied = model.architecture().tied_embeddings();
  int64_t bytes = 0;
  for (const v1::RankShard& shard : plan.ranks()) {
    for (const v1::TensorDescription& tensor : model.tensors()) {
      const bool is_table = tensor.name() == "token_embedding";
      if (is_table && !(tied && shard.has_output_head())) continue;
      const std::optional<TensorSlice> slice = SliceOf(shard, tensor, model.architecture());
      if (slice) bytes += static_cast<int64_t>(slice->bytes);
    }
  }
  return bytes;
}

std::string BenchReport(const v1::ModelDescription& model, const v1::ShardPlan& plan,
                        const BenchSetting& setting, const std::vector<BenchTiming>& timings) {
  const auto weight_bytes = static_cast<double>(WeightBytesPerToken(model, plan));
  nlohmann::ordered_json report = {
      {"model", model.name()},
      {"device", setting.device},
      {"tensor_parallel", plan.tensor_parallel_size()},
      {"pipeline_parallel", plan.pipeline_parallel_size()},
      {"threads_per_rank", setting.threads_per_rank},
      {"steps_in_flight", setting.steps_in_flight},
      {"communicator", setting.communicator},
      {"weight_bytes_per_token", static_cast<int64_t>(weight_bytes)},
      {"load_seconds", setting.load_seconds}};
  report["tests"] = nlohmann::ordered_json::array();
  for (const BenchTiming& timing : timings) {
    const double seconds = Median(timing.seconds);
    nlohmann::ordered_json test = {
        {"name", timing.run.name},     {"streams", timing.run.streams},
        {"depth", timing.run.depth},   {"prompt", timing.run.prompt},
        {"decode", timing.run.decode}, {"seconds", timing.seconds},
        {"tokens_per_second", static_cast<double>(timing.tokens()) / seconds}};
    if (!timing.read_bytes_per_second.empty()) {
      test["read_gb_per_s"] = Median(timing.read_bytes_per_second) / 1e9;
      const int groups = std::min(timing.run.streams, setting.steps_in_flight);
      const double bytes = weight_bytes * timing.run.decode * groups;
      std::vector<double> shares;
      for (size_t i = 0; i < timing.seconds.size(); ++i) {
        shares.push_back(bytes / timing.seconds[i] / timing.read_bytes_per_second[i]);
      }
      test["share_of_read"] = Median(std::move(shares));
    }
    report["tests"].push_back(std::move(test));
  }
  report["rank_seconds"] = nlohmann::ordered_json::array();
  for (const v1::StepTimes& times : setting.rank_times) {
    report["rank_seconds"].push_back(
        {{"computing", static_cast<double>(times.computing_micros()) / 1e6},
         {"waiting", static_cast<double>(times.waiting_micros()) / 1e6},
         {"transferring", static_cast<double>(times.transferring_micros()) / 1e6},
         {"idle", static_cast<double>(times.idle_micros()) / 1e6},
         {"late", static_cast<double>(times.late_micros()) / 1e6}});
  }
  return report.dump();
}

}  // namespace tessera::worker
