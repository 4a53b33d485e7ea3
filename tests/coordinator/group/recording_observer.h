// A GroupObserver that writes down what happens and lets a test wait for it.
#ifndef TESSERA_TESTS_COORDINATOR_GROUP_RECORDING_OBSERVER_H_
#define TESSERA_TESTS_COORDINATOR_GROUP_RECORDING_OBSERVER_H_

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/group/group.h"

namespace tessera::coordinator {

class RecordingObserver : public GroupObserver {
 public:
  using Planner = std::function<absl::StatusOr<v1::ShardPlan>(const v1::Hello&)>;
  explicit RecordingObserver(Planner planner) : planner_(std::move(planner)) {}

  // Everything seen so far. Copies, taken under the lock.
  struct Record {
    int joins = 0;
    int readies = 0;
    int64_t description_bytes = 0;
    std::vector<v1::RankReport> reports;
    std::vector<v1::StepResult> results;
    std::vector<absl::Status> losses;
    std::shared_ptr<GroupTransport> transport;
  };

  Record record() const {
    absl::MutexLock lock(&mu_);
    return record_;
  }

  // Waits until `condition` holds of the record; false after a minute, which fails the test.
  bool Await(const std::function<bool(const Record&)>& condition) const {
    absl::MutexLock lock(&mu_);
    auto holds = [&] { return condition(record_); };
    return mu_.AwaitWithTimeout(absl::Condition(&holds), absl::Minutes(1));
  }
  bool AwaitReady() const {
    return Await([](const Record& record) { return record.readies > 0; });
  }
  bool AwaitLost() const {
    return Await([](const Record& record) { return !record.losses.empty(); });
  }

  absl::StatusOr<v1::ShardPlan> OnJoin(const v1::Hello& hello,
                                       std::shared_ptr<GroupTransport> transport) override {
    auto plan = planner_(hello);
    absl::MutexLock lock(&mu_);
    ++record_.joins;
    record_.description_bytes = static_cast<int64_t>(hello.model().ByteSizeLong());
    record_.transport = std::move(transport);
    return plan;
  }
  void OnRankReport(const v1::RankReport& report) override {
    absl::MutexLock lock(&mu_);
    record_.reports.push_back(report);
  }
  void OnReady() override {
    absl::MutexLock lock(&mu_);
    ++record_.readies;
  }
  void OnStepResult(v1::StepResult result) override {
    absl::MutexLock lock(&mu_);
    record_.results.push_back(std::move(result));
  }
  void OnLost(absl::Status why) override {
    absl::MutexLock lock(&mu_);
    record_.losses.push_back(std::move(why));
    record_.transport.reset();
  }

 private:
  const Planner planner_;
  mutable absl::Mutex mu_;
  Record record_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tessera::coordinator

#endif  // TESSERA_TESTS_COORDINATOR_GROUP_RECORDING_OBSERVER_H_
