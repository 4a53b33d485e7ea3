#include "worker/group/rank_reporter.h"

#include <chrono>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "proto/base/mutex.h"
#include "tessera/v1/cluster.grpc.pb.h"
#include "worker/group/cluster_channel.h"
#include "worker/group/process.h"

namespace tessera::worker {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(2);
constexpr absl::Duration kLastCallTimeout = absl::Milliseconds(500);
constexpr absl::Duration kProgressInterval = absl::Milliseconds(100);
constexpr absl::Duration kTimesInterval = absl::Seconds(1);
// A serving rank says that it is alive, whether or not it computes: four times within the second
// that the coordinator's --failure-timeout is by default.
constexpr absl::Duration kHeartbeat = absl::Milliseconds(250);
constexpr absl::Duration kHeartbeatTimeout = absl::Seconds(1);  // then the next one is due

class RankReporterImpl : public RankReporter {
 public:
  RankReporterImpl(const std::string& coordinator, v1::RankReport identity)
      : stub_(v1::Cluster::NewStub(MakeClusterChannel(coordinator))), report_(std::move(identity)) {
    report_.set_phase(v1::RankReport::PHASE_STARTED);
    urgent_ = true;
    thread_ = std::thread([this] { Run(); });
  }

  ~RankReporterImpl() override {
    {
      MutexLock lock(&mu_);
      stopping_ = true;
      changed_.SignalAll();
    }
    thread_.join();
  }

  void BeforeLoad(int64_t resident_bytes) override {
    MutexLock lock(&mu_);
    report_.set_rss_before_load_bytes(resident_bytes);
    report_.set_phase(v1::RankReport::PHASE_LOADING);
    urgent_ = true;
    changed_.SignalAll();
  }

  void Progress(int64_t bytes_loaded, int64_t bytes_total) override {
    MutexLock lock(&mu_);
    report_.set_bytes_loaded(bytes_loaded);
    report_.set_bytes_total(bytes_total);
    news_ = true;
    changed_.SignalAll();
  }

  void Serving(const std::string& device, std::function<v1::StepTimes()> times) override {
    MutexLock lock(&mu_);
    times_ = std::move(times);
    report_.set_phase(v1::RankReport::PHASE_SERVING);
    report_.set_device(device);
    report_.set_peak_rss_bytes(ReadMemoryUse().peak_bytes);
    urgent_ = true;
    changed_.SignalAll();
  }

  void Failed(const std::string& error, absl::Duration patience) override {
    v1::RankReport report;
    {
      MutexLock lock(&mu_);
      report_.set_phase(v1::RankReport::PHASE_FAILED);
      report_.set_error(error);
      news_ = urgent_ = false;
      report = report_;
    }
    Send(std::move(report), patience);
  }

 private:
  bool Urgent() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return urgent_ || stopping_; }
  bool AnyNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return news_ || Urgent(); }

  // While the rank serves it has something to say at every heartbeat: at least that it is there.
  void AwaitNews() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const absl::Time beat = absl::Now() + kHeartbeat - kProgressInterval;  // Run has waited that long
    while (!AnyNews()) {
      if (!times_) {
        changed_.Wait(&mu_);
      } else if (changed_.WaitWithDeadline(&mu_, beat)) {
        break;
      }
    }
    if (!times_ || absl::Now() < next_times_) return;
    *report_.mutable_step_times() = times_();
    next_times_ = absl::Now() + kTimesInterval;
  }

  void Run() {
    for (;;) {
      v1::RankReport report;
      bool last;
      {
        MutexLock lock(&mu_);
        AwaitNews();
        last = stopping_;
        if (last && !news_ && !urgent_) return;
        news_ = urgent_ = false;
        report = report_;
      }
      const bool serves = report.phase() == v1::RankReport::PHASE_SERVING;
      Send(std::move(report), last     ? kLastCallTimeout
                              : serves ? kHeartbeatTimeout
                                       : kCallTimeout);
      if (last) return;
      MutexLock lock(&mu_);
      const absl::Time deadline = absl::Now() + kProgressInterval;
      while (!Urgent() && !changed_.WaitWithDeadline(&mu_, deadline)) {
      }
    }
  }

  void Send(v1::RankReport report, absl::Duration timeout) {
    if (report.phase() != v1::RankReport::PHASE_SERVING) {
      report.set_peak_rss_bytes(ReadMemoryUse().peak_bytes);
    }
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
    context.set_wait_for_ready(true);
    v1::RankReportReply reply;
    // The stream of the leader says what matters; a report that is lost stays lost.
    (void)stub_->ReportRank(&context, report, &reply);
  }

  const std::unique_ptr<v1::Cluster::Stub> stub_;
  Mutex mu_;
  CondVar changed_;  // news_, urgent_, stopping_, times_
  v1::RankReport report_ ABSL_GUARDED_BY(mu_);
  std::function<v1::StepTimes()> times_ ABSL_GUARDED_BY(mu_);  // null until the rank serves
  absl::Time next_times_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  bool news_ ABSL_GUARDED_BY(mu_) = false;    // may wait for its turn
  bool urgent_ ABSL_GUARDED_BY(mu_) = false;  // may not
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<RankReporter> RankReporter::Start(const std::string& coordinator,
                                                  v1::RankReport identity) {
  return std::make_unique<RankReporterImpl>(coordinator, std::move(identity));
}

}  // namespace tessera::worker
