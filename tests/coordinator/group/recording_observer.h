// GroupObservers that write down what happens and let a test wait for it: of one group at a time, or
// one for each group.
#ifndef TESSERA_TESTS_COORDINATOR_GROUP_RECORDING_OBSERVER_H_
#define TESSERA_TESTS_COORDINATOR_GROUP_RECORDING_OBSERVER_H_

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coordinator/group/group.h"
#include "proto/base/mutex.h"
#include "proto/base/status_macros.h"

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
    MutexLock lock(&mu_);
    return record_;
  }

  // Waits until `condition` holds of the record; false after a minute, which fails the test.
  bool Await(const std::function<bool(const Record&)>& condition) const {
    const absl::Time limit = absl::Now() + absl::Minutes(1);
    MutexLock lock(&mu_);
    while (!condition(record_)) {
      if (changed_.WaitWithDeadline(&mu_, limit)) return condition(record_);
    }
    return true;
  }
  bool AwaitReady() const {
    return Await([](const Record& record) { return record.readies > 0; });
  }
  bool AwaitLost() const {
    return Await([](const Record& record) { return !record.losses.empty(); });
  }

  absl::StatusOr<JoinedGroup> OnJoin(const v1::Hello& hello,
                                     std::shared_ptr<GroupTransport> transport) override {
    auto plan = planner_(hello);
    MutexLock lock(&mu_);
    ++record_.joins;
    record_.description_bytes = static_cast<int64_t>(hello.model().ByteSizeLong());
    record_.transport = std::move(transport);
    changed_.SignalAll();
    if (!plan.ok()) return plan.status();
    return JoinedGroup{.handle = GroupHandle{record_.joins}, .plan = *std::move(plan)};
  }
  void OnRankReport(GroupHandle /*group*/, const v1::RankReport& report) override {
    MutexLock lock(&mu_);
    changed_.SignalAll();
    record_.reports.push_back(report);
  }
  void OnReady(GroupHandle /*group*/) override {
    MutexLock lock(&mu_);
    changed_.SignalAll();
    ++record_.readies;
  }
  void OnStepResult(GroupHandle /*group*/, v1::StepResult result) override {
    MutexLock lock(&mu_);
    changed_.SignalAll();
    record_.results.push_back(std::move(result));
  }
  void OnLost(GroupHandle /*group*/, absl::Status why) override {
    MutexLock lock(&mu_);
    changed_.SignalAll();
    record_.losses.push_back(std::move(why));
    record_.transport.reset();
  }

 private:
  const Planner planner_;
  mutable Mutex mu_;
  mutable CondVar changed_;
  Record record_ ABSL_GUARDED_BY(mu_);
};

// A RecordingObserver for each group that says hello; the handle is its place, from 1.
class RecordingObservers : public GroupObserver {
 public:
  // What observers made from now on answer.
  void set_planner(RecordingObserver::Planner planner) {
    MutexLock lock(&mu_);
    planner_ = std::move(planner);
  }
  size_t size() const {
    MutexLock lock(&mu_);
    return observers_.size();
  }
  // The i-th group's, from 0; the newest.
  std::shared_ptr<RecordingObserver> at(size_t i) const {
    MutexLock lock(&mu_);
    return observers_.at(i);
  }
  std::shared_ptr<RecordingObserver> back() const {
    MutexLock lock(&mu_);
    return observers_.back();
  }

  absl::StatusOr<JoinedGroup> OnJoin(const v1::Hello& hello,
                                     std::shared_ptr<GroupTransport> transport) override {
    std::shared_ptr<RecordingObserver> observer;
    size_t place = 0;
    {
      MutexLock lock(&mu_);
      observer = observers_.emplace_back(std::make_shared<RecordingObserver>(planner_));
      place = observers_.size();
    }
    TESSERA_ASSIGN_OR_RETURN(JoinedGroup joined, observer->OnJoin(hello, std::move(transport)));
    joined.handle = GroupHandle{static_cast<int64_t>(place)};
    return joined;
  }
  void OnRankReport(GroupHandle group, const v1::RankReport& report) override {
    Of(group)->OnRankReport(group, report);
  }
  void OnReady(GroupHandle group) override { Of(group)->OnReady(group); }
  void OnStepResult(GroupHandle group, v1::StepResult result) override {
    Of(group)->OnStepResult(group, std::move(result));
  }
  void OnLost(GroupHandle group, absl::Status why) override {
    Of(group)->OnLost(group, std::move(why));
  }

 private:
  std::shared_ptr<RecordingObserver> Of(GroupHandle group) const {
    return at(static_cast<size_t>(group) - 1);
  }

  mutable Mutex mu_;
  RecordingObserver::Planner planner_ ABSL_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<RecordingObserver>> observers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tessera::coordinator

#endif  // TESSERA_TESTS_COORDINATOR_GROUP_RECORDING_OBSERVER_H_
