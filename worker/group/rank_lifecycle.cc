#include "worker/group/rank_lifecycle.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/types/span.h"
#include "kernels/device.h"
#include "proto/base/startup_times.h"
#include "proto/base/status_macros.h"
#include "proto/wire/protocol.h"
#include "worker/comm/receive_within.h"
#include "worker/comm/status_barrier.h"
#include "worker/group/memory_limit.h"
#include "worker/group/process.h"

namespace tessera::worker {
namespace {

// How far ranks may drift apart while they open the model and while they load it.
constexpr absl::Duration kPrepareTimeout = absl::Minutes(2);
constexpr absl::Duration kLoadTimeout = absl::Hours(1);
constexpr absl::Duration kPlanTimeout = absl::Seconds(60);
// What ranks that did not fail leave the one that did, to say why.
constexpr absl::Duration kOthersWait = absl::Milliseconds(100);
// From one try to reach a coordinator that was lost to the next.
constexpr absl::Duration kRejoinPause = absl::Milliseconds(100);
// Together these stay below the two seconds within which everything is gone.
constexpr absl::Duration kLastWordTimeout = absl::Milliseconds(300);
constexpr absl::Duration kOrderlyEndTimeout = absl::Milliseconds(1200);

// Unique per job: host, process and a random part.
std::string NewGroupId() {
  std::random_device random;
  return absl::StrFormat("%s-%d-%08x", HostName(), getpid(), random());
}

}  // namespace

int RankLifecycle::Run() {
  NoteStartup("started");
  if (!Prepare().ok()) return 1;
  NoteStartup("model opened, every rank there");
  auto plan = Join();
  if (!plan.ok()) return 1;
  NoteStartup("has its plan");
  if (!Load(*plan).ok()) return 1;
  NoteStartup("loaded, every rank too");
  for (;;) {
    if (!Serve().ok()) return 1;
    const absl::StatusOr<bool> again = Rejoin();
    if (!again.ok()) return 1;
    if (!*again) break;
    NoteStartup("has found a coordinator again");
  }
  Leave();
  return exit_code_;
}

void RankLifecycle::NoteStartup(absl::string_view point) {
  tessera::NoteStartup(absl::StrCat("rank ", options_.placement.local_rank, ": ", point));
}

absl::Status RankLifecycle::Prepare() {
  if (options_.communicator == CommunicatorKind::kNull) {
    world_ = MakeNullCommunicator();
  } else {
    auto world = MakeMpiCommunicator(
        {.deadline = options_.comm_timeout, .shared_memory = options_.shared_memory});
    if (!world.ok()) {
      Complain(world.status());
      return world.status();
    }
    world_ = *std::move(world);
  }
  world_rank_ = world_->rank();
  NoteStartup("MPI up");
  return AllWell(OpenAndListen(), kPrepareTimeout);
}

// Ranks beyond the host's GPUs share them.
absl::Status RankLifecycle::ChooseGpu() {
  if (options_.device == "cpu") return absl::OkStatus();
  const absl::StatusOr<int> gpus = kernels::NumGpus();
  if (!gpus.ok()) return options_.device == "cuda" ? gpus.status() : absl::OkStatus();
  gpu_ = options_.placement.local_rank % *gpus;
  ranks_on_gpu_ = (options_.placement.local_size + *gpus - 1) / *gpus;
  return absl::OkStatus();
}

// Said before the group joins: a cpu device would refuse the first of those weights.
absl::Status RankLifecycle::CheckDeviceTakes(const v1::ModelDescription& model) const {
  if (gpu_) return absl::OkStatus();
  for (const v1::TensorDescription& tensor : model.tensors()) {
    if (tensor.type() == v1::DATA_TYPE_F8_E4M3) {
      return absl::UnimplementedError(
          absl::StrCat(tensor.name(), ": weights of 8-bit floats (F8_E4M3) need a GPU; rank ",
                       world_rank_.load(), " computes on cpu"));
    }
  }
  return absl::OkStatus();
}

absl::Status RankLifecycle::OpenAndListen() {
  TESSERA_RETURN_IF_ERROR(ChooseGpu());
  TESSERA_ASSIGN_OR_RETURN(file_,
                           OpenModel(options_.model, options_.load_format, options_.quantization));
  TESSERA_RETURN_IF_ERROR(CheckDeviceTakes(file_->description()));
  TESSERA_ASSIGN_OR_RETURN(auto health, HealthServer::Start(options_.host, options_.health_port));
  MutexLock lock(&mu_);
  health_ = std::move(health);
  return absl::OkStatus();
}

absl::StatusOr<v1::ShardPlan> RankLifecycle::Join() {
  absl::StatusOr<v1::ShardPlan> plan = v1::ShardPlan();
  const absl::StatusOr<int64_t> mine = OwnFreeMemory();
  TESSERA_RETURN_IF_ERROR(AllWell(mine.status(), kPrepareTimeout));
  auto gathered = GatherFreeMemory(*mine);
  TESSERA_RETURN_IF_ERROR(AllWell(gathered.status(), kPrepareTimeout));
  free_memory_ = *std::move(gathered);
  if (leader()) plan = JoinAsLeader(options_.join_timeout);
  const absl::Duration timeout = options_.join_timeout + kPlanTimeout + absl::Seconds(10);
  TESSERA_RETURN_IF_ERROR(AllWell(plan.status(), timeout));

  auto group_id = FromLeader(*world_, group_id_, timeout);
  absl::Status heard = group_id.status();
  if (heard.ok()) {
    auto text = FromLeader(*world_, leader() ? plan->SerializeAsString() : "", timeout);
    heard = text.status();
    if (heard.ok()) plan_ = *text;
    if (heard.ok() && !plan->ParseFromString(*text)) {
      heard = absl::InternalError("the shard plan arrived damaged");
    }
    threads_ = ThreadsOf(Shares(), plan->tensor_parallel_size());
    // Ranks that compute on GPUs leave the cores to whoever waits.
    if (!gpu_ && CoresAreShared(Shares(), plan->tensor_parallel_size())) world_->ShareCores();
    StartReporting(*group_id);
  }
  TESSERA_RETURN_IF_ERROR(AllWell(heard, timeout));
  return plan;
}

CoreShares RankLifecycle::Shares() const {
  return {.ranks = world_->size(),
          .ranks_on_host = options_.placement.local_size,
          .cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency())),
          .threads_per_rank = options_.threads};
}

// This rank's share of its GPU's free memory; 0 where it has none.
absl::StatusOr<int64_t> RankLifecycle::OwnFreeMemory() const {
  if (!gpu_) return 0;
  TESSERA_ASSIGN_OR_RETURN(const kernels::MemoryInfo memory, kernels::MemoryOf(*gpu_));
  return memory.free / ranks_on_gpu_;
}

// Every rank's, on all of them; empty where one has none.
absl::StatusOr<std::vector<int64_t>> RankLifecycle::GatherFreeMemory(int64_t mine) {
  std::vector<int64_t> all(world_->size());
  TESSERA_RETURN_IF_ERROR(world_->AllGather(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&mine), sizeof(mine)),
      absl::MakeSpan(reinterpret_cast<std::byte*>(all.data()), all.size() * sizeof(mine))));
  if (std::find(all.begin(), all.end(), 0) != all.end()) all.clear();
  return all;
}

// The same group id and description each time.
absl::StatusOr<v1::ShardPlan> RankLifecycle::JoinAsLeader(absl::Duration connect_timeout) {
  ClusterLink* link = nullptr;
  {
    MutexLock lock(&mu_);
    if (link_ != nullptr) old_links_.push_back(std::move(link_));
    link_ =
        std::make_unique<ClusterLink>(ClusterLinkOptions{.coordinator = options_.coordinator,
                                                         .connect_timeout = connect_timeout,
                                                         .plan_timeout = kPlanTimeout},
                                      [this](const absl::Status& why) { OnLinkEnd(why); });
    link = link_.get();
  }
  if (group_id_.empty()) {
    group_id_ = options_.group_id.empty() ? NewGroupId() : options_.group_id;
  }
  v1::Hello hello;
  hello.set_group_id(group_id_);
  hello.set_world_size(world_->size());
  hello.set_served_model_name(options_.served_model_name);
  hello.set_protocol_version(wire::kProtocolVersion);
  *hello.mutable_model() = file_->description();
  hello.mutable_free_memory_bytes()->Add(free_memory_.begin(), free_memory_.end());
  hello.set_time_sliced_stages(!gpu_ && StagesAreTimeSliced(Shares()));
  return link->Join(hello);
}

void RankLifecycle::StartReporting(const std::string& group_id) {
  v1::RankReport identity;
  identity.set_group_id(group_id);
  identity.set_world_rank(world_rank_);
  identity.set_host(HostName());
  identity.set_pid(getpid());
  identity.set_health_port(health()->port());
  identity.set_threads(threads_);
  MutexLock lock(&mu_);
  reporter_ = RankReporter::Start(options_.coordinator, std::move(identity));
}

absl::Status RankLifecycle::CheckRoom(const v1::ShardPlan& plan) const {
  if (gpu_) return absl::OkStatus();  // weights and KV cache are there
  if (plan.ranks_size() != world_->size())
    return absl::OkStatus();  // the engine says what is wrong
  const int local = std::min(options_.placement.local_size, world_->size());
  return CheckMemory(NeedOf(file_->description(), plan, world_rank_, local), ReadMemoryLimits("/"));
}

absl::Status RankLifecycle::Load(const v1::ShardPlan& plan) {
  TESSERA_RETURN_IF_ERROR(AllWell(CheckRoom(plan), kPrepareTimeout));
  RankReporter* news = reporter();
  ResetPeakMemory();
  news->BeforeLoad(ReadMemoryUse().resident_bytes);
  RankEngineOptions options;
  options.device = gpu_ ? "cuda" : "cpu";
  options.comm = options_.comm;
  options.device_options.threads = threads_;
  options.device_options.instruction_set = options_.instruction_set;
  options.device_options.deterministic = options_.deterministic;
  if (gpu_) options.device_options.gpu = *gpu_;
  options.SetPatience(options_.comm_timeout);
  options.clock = &clock_;
  options.on_progress = [news](int64_t loaded, int64_t total) { news->Progress(loaded, total); };
  auto engine = RankEngine::Create(*file_, plan, world_.get(), options);
  TESSERA_RETURN_IF_ERROR(AllWell(engine.status(), kLoadTimeout));
  engine_ = *std::move(engine);
  return absl::OkStatus();
}

absl::Status RankLifecycle::Serve() {
  health()->SetServing(true);
  reporter()->Serving(engine_->DeviceName(), [this] { return clock_.Read(); });
  serving_ = true;
  // A stream that broke since is found by the engine at its first plan.
  if (leader()) link()->SendReady().IgnoreError();
  const absl::Status ended = engine_->Serve(link());
  serving_ = false;
  health()->SetServing(false);
  return ended.ok() ? ended : AllWell(ended, kLastWordTimeout);
}

// Whether the group serves on, for a coordinator that has come back or taken the lost one's place.
// The weights are still there; they are loaded anew only where that one plans otherwise.
absl::StatusOr<bool> RankLifecycle::Rejoin() {
  std::string plan_text;
  if (leader() && coordinator_lost_) plan_text = PlanOfNextCoordinator();
  const absl::Duration timeout = options_.rejoin_timeout + kPlanTimeout + absl::Seconds(10);
  const auto told = FromLeader(*world_, plan_text, timeout);
  if (!told.ok()) return told.status();
  if (told->empty()) return false;
  if (*told == plan_) return true;
  v1::ShardPlan plan;
  absl::Status read = absl::OkStatus();
  if (!plan.ParseFromString(*told)) read = absl::InternalError("the shard plan arrived damaged");
  TESSERA_RETURN_IF_ERROR(AllWell(read, kPrepareTimeout));
  engine_.reset();
  TESSERA_RETURN_IF_ERROR(Load(plan));
  plan_ = *told;
  return true;
}

// Empty: none came in time, or it does not want this group.
std::string RankLifecycle::PlanOfNextCoordinator() {
  coordinator_lost_ = false;
  const absl::Time limit = absl::Now() + options_.rejoin_timeout;
  absl::Status why;
  do {
    const absl::StatusOr<v1::ShardPlan> plan =
        JoinAsLeader(std::max(kRejoinPause, limit - absl::Now()));
    if (plan.ok()) return plan->SerializeAsString();
    why = plan.status();
    if (!absl::IsUnavailable(why) && !absl::IsAlreadyExists(why)) break;  // it will not change
    absl::SleepFor(kRejoinPause);
  } while (absl::Now() < limit);
  if (!ending_.exchange(true)) {
    PrintLine(absl::StrCat("tessera-worker: cannot join a coordinator again: ", why.message()));
  }
  exit_code_ = 1;
  return "";
}

void RankLifecycle::Leave() {
  ending_ = true;
  ExitUnlessDoneWithin(kOrderlyEndTimeout);
  if (leader()) link()->Close(kLastWordTimeout);
  engine_.reset();
  world_.reset();  // waits for the other ranks to come here too
}

absl::Status RankLifecycle::AllWell(const absl::Status& mine, absl::Duration timeout) {
  const BarrierOutcome outcome =
      StatusBarrier(*world_, mine, {.deadline = timeout, .failed_waits_briefly = true});
  if (outcome.failed_rank == world_rank_) {
    Complain(outcome.status);
  } else if (!outcome.status.ok()) {
    absl::SleepFor(kOthersWait);  // mpirun ends the job with the first exit
  }
  return outcome.status;
}

void RankLifecycle::Complain(const absl::Status& why) {
  if (ending_.exchange(true)) return;
  std::string line = "tessera-worker: ";
  if (world_rank_ > 0) absl::StrAppend(&line, "rank ", world_rank_.load(), ": ");
  const std::string message(why.message());
  PrintLine(absl::StrCat(line, message));
  if (reporter()) reporter()->Failed(message, kLastWordTimeout);
  if (link()) link()->SendFailure(world_rank_, message, kLastWordTimeout);
}

void RankLifecycle::OnLinkEnd(const absl::Status& why) {
  const bool asked_for = absl::IsCancelled(why);
  if (!asked_for && serving_ && !ending_ && options_.rejoin_timeout > absl::ZeroDuration()) {
    PrintLine(absl::StrCat("tessera-worker: ", why.message(), "; waiting up to ",
                           absl::FormatDuration(options_.rejoin_timeout),
                           " for one to come back (--rejoin-timeout)"));
    coordinator_lost_ = true;  // the engine ends in order with its next plan
    return;
  }
  if (ending_.exchange(true)) return;
  if (!asked_for) {
    PrintLine(absl::StrCat("tessera-worker: ", why.message()));
    exit_code_ = 1;
  }
  if (!serving_) ExitNow(exit_code_);        // mpirun ends the other ranks
  ExitUnlessDoneWithin(kOrderlyEndTimeout);  // the engine hears of it with its next plan
}

void RankLifecycle::OnSignal(int number) {
  if (ending_.exchange(true)) return;
  const std::string why =
      absl::StrCat("received ", number == SIGINT ? "SIGINT" : "SIGTERM",
                   ": ended from outside, or by mpirun because another rank died");
  if (health()) health()->SetServing(false);
  if (leader() && link()) {
    const bool serving = serving_;
    if (serving) ExitUnlessDoneWithin(kOrderlyEndTimeout);
    link()->SendFailure(world_rank_, why, kLastWordTimeout);  // the engine ends the others
    if (serving) return;
  } else if (reporter()) {
    reporter()->Failed(why, kLastWordTimeout);
  }
  ExitNow(1);
}

HealthServer* RankLifecycle::health() {
  MutexLock lock(&mu_);
  return health_.get();
}

RankReporter* RankLifecycle::reporter() {
  MutexLock lock(&mu_);
  return reporter_.get();
}

ClusterLink* RankLifecycle::link() {
  MutexLock lock(&mu_);
  return link_.get();
}

}  // namespace tessera::worker
