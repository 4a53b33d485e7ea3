#include "coordinator/group/group_state.h"

#include "absl/strings/str_cat.h"
#include "coordinator/plan/rank_part.h"

namespace tessera::coordinator {

void GroupState::SetPlan(const std::string& model_name, const v1::ShardPlan& plan) {
  MutexLock lock(&mu_);
  status_.Clear();
  status_.set_model(model_name);
  status_.set_state(v1::GroupStatus::STATE_LOADING);
  status_.set_tensor_parallel_size(plan.tensor_parallel_size());
  status_.set_pipeline_parallel_size(plan.pipeline_parallel_size());
  status_.set_kv_blocks_total(plan.num_kv_blocks());
  status_.set_kv_blocks_free(plan.num_kv_blocks());
  for (const v1::RankShard& shard : plan.ranks()) {
    v1::RankStatus* rank = status_.add_ranks();
    *rank->mutable_shard() = RankPartOf(shard);
    rank->set_bytes_total(shard.weight_bytes());
  }
}

absl::Status GroupState::AddReport(const v1::RankReport& report) {
  MutexLock lock(&mu_);
  if (report.world_rank() < 0 || report.world_rank() >= status_.ranks_size()) {
    return absl::InvalidArgumentError(absl::StrCat("report of world rank ", report.world_rank(),
                                                   "; expected 0 .. ", status_.ranks_size() - 1));
  }
  v1::RankStatus* rank = status_.mutable_ranks(report.world_rank());
  rank->set_host(report.host());
  rank->set_pid(report.pid());
  rank->set_health_port(report.health_port());
  rank->set_bytes_loaded(report.bytes_loaded());
  if (report.bytes_total() > 0) rank->set_bytes_total(report.bytes_total());
  rank->set_peak_rss_bytes(report.peak_rss_bytes());
  rank->set_rss_before_load_bytes(report.rss_before_load_bytes());
  rank->set_serving(report.phase() == v1::RankReport::PHASE_SERVING);
  rank->set_device(report.device());
  if (report.has_step_times()) {
    *rank->mutable_step_times() = RankTimesOf(report.step_times());
  }
  return absl::OkStatus();
}

void GroupState::SetReady() {
  MutexLock lock(&mu_);
  status_.set_state(v1::GroupStatus::STATE_SERVING);
}

void GroupState::SetLost(const absl::Status& why) {
  MutexLock lock(&mu_);
  status_.set_state(why.ok() ? v1::GroupStatus::STATE_STARTING : v1::GroupStatus::STATE_FAILED);
  status_.set_error(why.ok() ? "" : std::string(why.message()));
  for (v1::RankStatus& rank : *status_.mutable_ranks()) rank.set_serving(false);
}

v1::GroupStatus GroupState::Snapshot() const {
  MutexLock lock(&mu_);
  return status_;
}

GroupState::Progress GroupState::progress() const {
  MutexLock lock(&mu_);
  Progress progress;
  for (const v1::RankStatus& rank : status_.ranks()) {
    progress.bytes_loaded += rank.bytes_loaded();
    progress.bytes_total += rank.bytes_total();
  }
  return progress;
}

}  // namespace tessera::coordinator
