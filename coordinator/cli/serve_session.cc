#include "coordinator/cli/serve_session.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "coordinator/cli/cluster_map.h"
#include "coordinator/cli/describe.h"
#include "coordinator/cli/terminal.h"
#include "coordinator/group/local_ranks.h"
#include "coordinator/plan/format_plan.h"
#include "proto/base/host_port.h"
#include "proto/base/startup_times.h"
#include "proto/base/status_macros.h"
#include "proto/flags/worker_flags.h"

namespace tessera::coordinator {
namespace {

constexpr absl::Duration kLoadingTick = absl::Milliseconds(10);
constexpr absl::Duration kServingTick = absl::Milliseconds(100);
// Without running requests everything is gone within two seconds.
constexpr absl::Duration kOrderlyExit = absl::Milliseconds(400);
constexpr absl::Duration kTerminateGrace = absl::Milliseconds(300);
constexpr absl::Duration kLastWords = absl::Milliseconds(100);  // statuses still on their way out

// One address on each line. Readers see all of them or no file.
absl::Status WriteReadyFile(const std::string& path, const std::string& addresses) {
  const std::string draft = path + ".tmp";
  std::ofstream(draft) << addresses << "\n";
  if (std::rename(draft.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("cannot write ", path, " (--ready-file)"));
}

}  // namespace

ServeSession::ServeSession(ServeOptions options)
    : options_(std::move(options)), display_(std::cout, IsTerminal(STDOUT_FILENO)) {}

ServeSession::~ServeSession() { Close(); }

absl::Status ServeSession::Run() {
  NoteStartup("coordinator: started");
  TESSERA_RETURN_IF_ERROR(Open());
  NoteStartup("coordinator: doors open");
  TESSERA_RETURN_IF_ERROR(Launch());
  NoteStartup("coordinator: mpirun started");
  TESSERA_RETURN_IF_ERROR(Watch());
  Drain();
  return absl::OkStatus();
}

EngineOptions ServeSession::WholeEngineOptions() const {
  EngineOptions engine = options_.engine;
  engine.limits.max_steps_in_flight = engine.layout.pipeline_parallel;  // one for each stage
  engine.limits.tenant_weights = access_->weights();
  engine.metrics = metrics_.get();
  return engine;
}

absl::Status ServeSession::Open() {
  if (!options_.ready_file.empty()) std::remove(options_.ready_file.c_str());
  TESSERA_ASSIGN_OR_RETURN(access_, Access::Create(options_.access));
  metrics_ = Metrics::Create();
  router_ = Router::Create(WholeEngineOptions(), options_.replay);
  text_worker_ = std::make_shared<TextWorker>();
  front_ = FrontDoor::Create(
      {.router = router_.get(), .metrics = metrics_.get(), .worker = text_worker_});
  TESSERA_RETURN_IF_ERROR(OpenDoors());
  TESSERA_ASSIGN_OR_RETURN(
      cluster_, ClusterService::Start(
                    {.host = options_.cluster_host, .port = options_.cluster_port}, router_.get()));
  return absl::OkStatus();
}

// Both answer from now on, also while the model loads: that they are not ready.
absl::Status ServeSession::OpenDoors() {
  TESSERA_ASSIGN_OR_RETURN(
      server_, ApiServer::Start({.host = options_.host, .port = options_.grpc_port},
                                {router_.get(), front_.get(), access_.get()}));
  if (!options_.http) return absl::OkStatus();
  HttpDoorOptions http;
  http.host = options_.host;
  http.port = options_.http_port;
  TESSERA_ASSIGN_OR_RETURN(
      http_, HttpDoor::Start(http, {front_.get(), access_.get(), metrics_.get(), text_worker_}));
  return absl::OkStatus();
}

std::vector<std::string> WorkerArguments(const ServeOptions& options) {
  std::vector<std::string> args;
  const auto pass_on = [&args](const flags::Flag& flag, const std::string& value) {
    if (!value.empty()) args.insert(args.end(), {std::string(flag.name), value});
  };
  if (options.comm_timeout_seconds > 0) {
    pass_on(flags::kCommTimeout, absl::StrCat(options.comm_timeout_seconds));
  }
  pass_on(flags::kDevice, options.device);
  pass_on(flags::kComm, options.comm);
  pass_on(flags::kQuantization, options.quantization);
  pass_on(flags::kInstructionSet, options.instruction_set);
  if (options.deterministic) args.emplace_back(flags::kDeterministic.name);
  return args;
}

int ServeSession::world_size() const {
  return options_.engine.layout.tensor_parallel * options_.engine.layout.pipeline_parallel;
}

std::string ServeSession::WorkerAddress() const {
  const bool everywhere = options_.cluster_host == "0.0.0.0" || options_.cluster_host == "::";
  return HostPort(everywhere ? HostName() : options_.cluster_host, cluster_->port());
}

LaunchOptions ServeSession::WhatToLaunch() const {
  LaunchOptions launch;
  launch.launcher_args = options_.mpirun_args;
  launch.world_size = world_size();
  launch.coordinator = WorkerAddress();
  launch.model = options_.model;
  launch.load_format = options_.load_format;
  launch.threads_per_rank = options_.threads_per_rank;
  // A group knows nothing of the others on its host.
  if (options_.data_parallel > 1 && launch.threads_per_rank == 0 && options_.mpirun_args.empty()) {
    const int ranks = options_.data_parallel * options_.engine.layout.tensor_parallel;
    launch.threads_per_rank = std::max(1, CoresOfThisHost() / ranks);
  }
  launch.worker_args = WorkerArguments(options_);
  return launch;
}

absl::Status ServeSession::Launch() {
  if (options_.external) {
    std::cout << "waiting for a worker group; start one with\n  mpirun -n " << world_size()
              << " tessera-worker --coordinator " << WorkerAddress() << " --model "
              << (options_.model.empty() ? "MODEL" : options_.model) << std::endl;
    return absl::OkStatus();
  }
  LaunchOptions launch = WhatToLaunch();
  TESSERA_ASSIGN_OR_RETURN(launch.worker_program, WorkerProgram());
  const Layout& layout = options_.engine.layout;
  std::cout << "starting ";
  if (options_.data_parallel > 1) std::cout << options_.data_parallel << " groups of ";
  std::cout << world_size() << (world_size() == 1 ? " worker" : " workers") << " (tensor parallel "
            << layout.tensor_parallel << " x pipeline parallel " << layout.pipeline_parallel << ")"
            << std::endl;
  // The stages of one host take turns anyway, unless each has threads of its own.
  const int threads = options_.threads_per_rank > 0
                          ? options_.data_parallel * world_size() * options_.threads_per_rank
                          : options_.data_parallel * layout.tensor_parallel;
  if (options_.mpirun_args.empty() && threads > CoresOfThisHost()) {
    std::cout << "note: " << threads << " compute threads on " << CoresOfThisHost()
              << " cores take turns; as many as there are cores would be faster" << std::endl;
  }
  const bool verbose = options_.verbose;
  launched_ = std::make_unique<LaunchedGroups>(
      LaunchedGroupsOptions{.launch = std::move(launch),
                            .count = options_.data_parallel,
                            .max_relaunches = options_.max_relaunches},
      cluster_.get(),
      [verbose](const std::string& line) {
        if (absl::StartsWith(line, "note: ")) {
          std::cout << line << std::endl;
        } else if (verbose) {
          std::cerr << line << std::endl;
        }
      },
      [this](const std::string& line) { Tell(line); });
  return launched_->Start();
}

absl::Status ServeSession::Watch() {
  for (;;) {
    if (interrupts_.Wait(announced_ ? kServingTick : kLoadingTick)) return absl::OkStatus();
    TESSERA_RETURN_IF_ERROR(Observe());
  }
}

// One look at the groups and at their jobs; acts on what has changed.
absl::Status ServeSession::Observe() {
  const v1::GetClusterStatusResponse status = router_->Status();
  TellLosses(status);
  if (launched_ != nullptr) {
    absl::Status left = launched_->Tick(status, absl::Now());
    if (!left.ok()) {
      display_.End();
      router_->GiveUp(GroupLostError());
      return left;
    }
  }
  if (!announced_) {
    for (const v1::GroupStatus& group : status.groups()) {
      if (group.state() != v1::GroupStatus::STATE_LOADING) continue;
      display_.Update(ProgressOf(group));
      break;
    }
  }
  const bool serves = std::any_of(status.groups().begin(), status.groups().end(), [](auto& group) {
    return group.state() == v1::GroupStatus::STATE_SERVING;
  });
  const bool all = launched_ == nullptr || launched_->AllServe(status);
  if (serves && all && !announced_) TESSERA_RETURN_IF_ERROR(Announce(status));
  if (serves) told_waiting_ = false;
  // A group that was turned away, or failed before it served: nobody else tells of it.
  const bool failed = !serves && status.groups_size() == 1 &&
                      status.groups(0).state() == v1::GroupStatus::STATE_FAILED;
  if (options_.external && failed && !std::exchange(told_waiting_, true)) {
    display_.End();
    PrintError(absl::StrCat(status.groups(0).error(), "; waiting for the next group"));
  }
  return absl::OkStatus();
}

void ServeSession::Tell(const std::string& line) {
  display_.End();
  std::cerr << line << std::endl;
}

// Of each loss once.
void ServeSession::TellLosses(const v1::GetClusterStatusResponse& status) {
  for (const v1::LostGroup& lost : status.lost_groups()) {
    if (lost.lost_unix_millis() <= last_loss_) continue;
    last_loss_ = lost.lost_unix_millis();
    const int moved = lost.requests_moved();
    Tell(absl::StrCat("lost worker group ", lost.group_id(), ": ", lost.error(),
                      moved == 0   ? ""
                      : moved == 1 ? "; its request goes on with another"
                                   : absl::StrCat("; its ", moved, " requests go on with another")));
  }
}

absl::Status ServeSession::Announce(const v1::GetClusterStatusResponse& status) {
  display_.End();
  announced_ = true;
  NoteStartup("coordinator: announces that it serves");
  const std::shared_ptr<const ServedModel> model = router_->model();
  if (model == nullptr) return absl::OkStatus();  // lost again; the next look tells
  const std::string address = HostPort(options_.host, server_->port());
  const std::string http_address =
      http_ != nullptr ? HostPort(options_.host, http_->port()) : "";
  const Style style = StyleFor(STDOUT_FILENO);
  std::cout << "\n" << FormatPlan(model->description, model->plan) << "\n";
  for (const v1::GroupStatus& group : status.groups()) {
    if (status.groups_size() > 1) std::cout << style.Bold(group.group_id()) << "\n";
    std::cout << FormatProcesses(group) << "\n";
  }
  std::cout << style.Green("ready:") << " grpc " << address;
  if (http_ != nullptr) std::cout << ", http http://" << http_address;
  std::cout << std::endl;
  if (options_.ready_file.empty()) return absl::OkStatus();
  return WriteReadyFile(options_.ready_file,
                        http_address.empty() ? address : absl::StrCat(address, "\n", http_address));
}

// Lets the running requests end; a second interrupt ends them at once.
void ServeSession::Drain() {
  display_.End();
  const v1::GetClusterStatusResponse status = router_->Status();
  const int live = status.requests_running() + status.requests_waiting();
  if (live > 0) {
    std::cout << absl::StrFormat("stopping: %d %s up to %s to end; Ctrl-C again stops at once",
                                 live, live == 1 ? "request has" : "requests have",
                                 absl::FormatDuration(options_.shutdown_timeout))
              << std::endl;
  }
  // A group that is lost meanwhile still comes back for the requests that it had.
  absl::Notification drained;
  std::thread drain([&] {
    router_->Drain(options_.shutdown_timeout);
    drained.Notify();
  });
  {
    const InterruptCallback at_once(interrupts_, [this] { router_->Drain(absl::ZeroDuration()); });
    while (!drained.WaitForNotificationWithTimeout(kServingTick)) Observe().IgnoreError();
  }
  drain.join();
  if (launched_ != nullptr && status.groups_size() > 0) launched_->AwaitEnd(kOrderlyExit);
}

// Streams hear of the end before the doors close; the job is gone when this returns.
void ServeSession::Close() {
  if (launched_ != nullptr) launched_->Terminate(kTerminateGrace);
  launched_ = nullptr;
  cluster_ = nullptr;
  if (http_ != nullptr) http_->Shutdown(kLastWords);
  http_ = nullptr;
  if (server_ != nullptr) server_->Shutdown(kLastWords);
  server_ = nullptr;
  front_ = nullptr;
  router_ = nullptr;
}

}  // namespace tessera::coordinator
