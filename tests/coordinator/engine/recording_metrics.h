// Metrics that remember what they were told.
#ifndef TESSERA_TESTS_COORDINATOR_ENGINE_RECORDING_METRICS_H_
#define TESSERA_TESTS_COORDINATOR_ENGINE_RECORDING_METRICS_H_

#include <mutex>
#include <string>
#include <vector>

#include "coordinator/engine/metrics.h"

namespace tessera::testing {

class RecordingMetrics final : public coordinator::Metrics {
 public:
  void SetModel(const std::string& name) override {
    std::lock_guard<std::mutex> lock(mu_);
    model_ = name;
  }
  void FirstToken(absl::Duration) override {
    std::lock_guard<std::mutex> lock(mu_);
    ++first_tokens_;
  }
  void InterToken(absl::Duration) override {
    std::lock_guard<std::mutex> lock(mu_);
    ++inter_tokens_;
  }
  void RequestEnded(const coordinator::EndedRequest& request) override {
    std::lock_guard<std::mutex> lock(mu_);
    ended_.push_back(request);
  }
  void BeginGroup(int) override {}
  void SchedulerState(int, const coordinator::SchedulerStats&) override {
    std::lock_guard<std::mutex> lock(mu_);
    ++states_;
  }
  void RankTimes(int, int, const v1::StepTimes&) override {}
  void GroupLost() override {
    std::lock_guard<std::mutex> lock(mu_);
    ++groups_lost_;
  }
  void RequestsMoved(int count) override {
    std::lock_guard<std::mutex> lock(mu_);
    moved_ += count;
  }
  std::string Serialize() const override { return ""; }

  int groups_lost() const {
    std::lock_guard<std::mutex> lock(mu_);
    return groups_lost_;
  }
  int moved() const {
    std::lock_guard<std::mutex> lock(mu_);
    return moved_;
  }

  std::string model() const {
    std::lock_guard<std::mutex> lock(mu_);
    return model_;
  }
  int first_tokens() const {
    std::lock_guard<std::mutex> lock(mu_);
    return first_tokens_;
  }
  int inter_tokens() const {
    std::lock_guard<std::mutex> lock(mu_);
    return inter_tokens_;
  }
  int states() const {
    std::lock_guard<std::mutex> lock(mu_);
    return states_;
  }
  std::vector<coordinator::EndedRequest> ended() const {
    std::lock_guard<std::mutex> lock(mu_);
    return ended_;
  }

 private:
  mutable std::mutex mu_;
  std::string model_;
  int first_tokens_ = 0;
  int inter_tokens_ = 0;
  int states_ = 0;
  int groups_lost_ = 0;
  int moved_ = 0;
  std::vector<coordinator::EndedRequest> ended_;
};

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_COORDINATOR_ENGINE_RECORDING_METRICS_H_
