#include "tests/worker/group/group_fixture.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "coordinator/group/mpi_leftovers.h"

namespace tessera::worker {
namespace {

// Far above the two seconds that are promised, which the integration tests watch: a machine under
// load must not fail this one.
constexpr absl::Duration kGoneLimit = absl::Seconds(20);
constexpr absl::Duration kPoll = absl::Milliseconds(5);

bool Runs(int pid) {
  std::ifstream stat(absl::StrCat("/proc/", pid, "/stat"));
  // Not with an istreambuf_iterator, which throws what a process that ends meanwhile gives (ESRCH).
  std::string text;
  std::getline(stat, text, '\0');
  return !text.empty() && text.find(") Z") == std::string::npos;
}

std::map<int, v1::RankReport> Latest(const coordinator::RecordingObserver::Record& record) {
  std::map<int, v1::RankReport> latest;
  for (const auto& report : record.reports) latest[report.world_rank()] = report;
  return latest;
}

int CountServing(const coordinator::RecordingObserver::Record& record) {
  int count = 0;
  for (const auto& [rank, report] : Latest(record)) {
    count += report.phase() == v1::RankReport::PHASE_SERVING;
  }
  return count;
}

}  // namespace

std::vector<int> StillRunning(const std::vector<int>& pids) {
  std::vector<int> left;
  for (const int pid : pids) {
    if (Runs(pid)) left.push_back(pid);
  }
  return left;
}

std::vector<std::string> SegmentsOf(int mpirun_pid) {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  const std::string mine =
      absl::StrFormat(".%x.", coordinator::OpenMpiJobId(host, mpirun_pid));
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    const std::string name = entry.path().filename();
    if (absl::StartsWith(name, "vader_segment.") && absl::StrContains(name, mine)) {
      names.push_back(name);
    }
  }
  return names;
}

namespace {

// Turns a second group away, in the words of the coordinator's router.
class OneGroupObserver : public coordinator::RecordingObserver {
 public:
  using RecordingObserver::RecordingObserver;
  absl::StatusOr<coordinator::JoinedGroup> OnJoin(
      const v1::Hello& hello, std::shared_ptr<coordinator::GroupTransport> transport) override {
    if (record().joins > 0) {
      return absl::AlreadyExistsError(
          "this coordinator already has a worker group (the first); one at a time");
    }
    return RecordingObserver::OnJoin(hello, std::move(transport));
  }
};

}  // namespace

void GroupFixture::Listen() {
  observer_ = std::make_shared<OneGroupObserver>(
      [this](const v1::Hello& hello) { return PlanShards(hello.model(), layout_); });
  auto service = coordinator::ClusterService::Start({}, observer_.get());
  ASSERT_TRUE(service.ok()) << service.status();
  service_ = *std::move(service);
}

coordinator::LaunchOptions GroupFixture::Options(int world_size) const {
  coordinator::LaunchOptions options;
  options.worker_program = kWorkerProgram;
  options.world_size = world_size;
  options.coordinator = absl::StrCat("127.0.0.1:", service_ ? service_->port() : 1);
  options.model = kTinyModel;
  options.threads_per_rank = 1;
  return options;
}

void GroupFixture::Launch(const coordinator::LaunchOptions& options) {
  auto job = coordinator::Launcher::Start(
      options,
      [this](const std::string& line) {
        absl::MutexLock lock(&mu_);
        lines_.push_back(line);
      },
      nullptr);
  ASSERT_TRUE(job.ok()) << job.status();
  job_ = *std::move(job);
}

void GroupFixture::StartGroup(int tensor_parallel, int pipeline_parallel) {
  layout_.tensor_parallel = tensor_parallel;
  layout_.pipeline_parallel = pipeline_parallel;
  Listen();
  const int world_size = tensor_parallel * pipeline_parallel;
  ASSERT_NO_FATAL_FAILURE(Launch(Options(world_size)));
  ASSERT_TRUE(observer_->Await([&](const auto& record) {
    return !record.losses.empty() || (record.readies > 0 && CountServing(record) == world_size);
  })) << Output();
  const auto record = observer_->record();
  ASSERT_TRUE(record.losses.empty()) << record.losses[0] << "\n" << Output();
  for (const auto& report : ServingReports()) job_->AddRankPid(report.pid());
}

std::vector<v1::RankReport> GroupFixture::ServingReports() const {
  std::vector<v1::RankReport> reports;
  for (const auto& [rank, report] : Latest(observer_->record())) reports.push_back(report);
  return reports;
}

std::vector<int> GroupFixture::Pids() const {
  std::vector<int> pids;
  for (const auto& report : ServingReports()) pids.push_back(report.pid());
  pids.push_back(MpirunPid());
  return pids;
}

void GroupFixture::ExpectGone(const std::vector<int>& pids) {
  const absl::Time start = absl::Now();
  while (absl::Now() < start + kGoneLimit &&
         (!StillRunning(pids).empty() || !SegmentsOf(pids.back()).empty())) {
    absl::SleepFor(kPoll);
  }
  RecordProperty("gone_after_ms", static_cast<int>(absl::ToInt64Milliseconds(absl::Now() - start)));
  EXPECT_TRUE(StillRunning(pids).empty()) << absl::StrJoin(StillRunning(pids), " ") << "\n"
                                          << Output();
  EXPECT_TRUE(SegmentsOf(pids.back()).empty()) << absl::StrJoin(SegmentsOf(pids.back()), " ");
  ASSERT_TRUE(observer_->AwaitLost());
  EXPECT_EQ(observer_->record().losses.size(), 1u);
  std::cout << "gone after " << absl::Now() - start << "; lost: " << observer_->record().losses[0]
            << "\n";
}

v1::StepResult GroupFixture::RunStep(const v1::StepPlan& step) {
  auto transport = observer_->record().transport;
  const size_t before = observer_->record().results.size();
  EXPECT_TRUE(transport->SendPlan(step).ok());
  EXPECT_TRUE(observer_->Await([&](const auto& record) {
    return record.results.size() > before || !record.losses.empty();
  }));
  const auto record = observer_->record();
  EXPECT_TRUE(record.losses.empty()) << record.losses[0] << "\n" << Output();
  return record.results.size() > before ? record.results.back() : v1::StepResult();
}

std::string GroupFixture::Output() const {
  absl::MutexLock lock(&mu_);
  return absl::StrJoin(lines_, "\n");
}

}  // namespace tessera::worker
