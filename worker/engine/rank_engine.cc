#include "worker/engine/rank_engine.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/annotate.h"
#include "proto/base/status_macros.h"
#include "proto/model/check_plan.h"
#include "worker/comm/status_barrier.h"
#include "worker/engine/pipeline_links.h"
#include "worker/engine/serve_loops.h"
#include "worker/engine/step_runner.h"
#include "worker/model/shard_slices.h"

namespace tessera::worker {
namespace {

class RankEngineImpl : public RankEngine {
 public:
  RankEngineImpl(PipelineLinks links, std::unique_ptr<Communicator> tp,
                 std::unique_ptr<Communicator> pp, std::unique_ptr<StepRunner> runner,
                 RankEngineOptions options)
      : links_(std::move(links)),
        tp_(std::move(tp)),
        pp_(std::move(pp)),
        runner_(std::move(runner)),
        options_(std::move(options)) {
    if (options_.clock == nullptr) options_.clock = &own_clock_;
  }

  // Peers may be gone for whom the device would wait.
  ~RankEngineImpl() override {
    if (!ended_.ok()) runner_->GiveUp(ended_);
  }

  absl::Status Serve(StepChannel* channel) override {
    if (!links_.is_leader()) {
      ended_ = ServeAsFollower(*runner_, links_, options_);
    } else if (channel == nullptr) {
      return absl::InvalidArgumentError("the leader needs a step channel");
    } else {
      ended_ = ServeAsLeader(*runner_, links_, *channel, options_);
    }
    return ended_;
  }

  std::string DeviceName() const override { return runner_->DeviceName(); }

 private:
  PipelineLinks links_;
  std::unique_ptr<Communicator> tp_, pp_;  // outlive the runner, which borrows them
  std::unique_ptr<StepRunner> runner_;
  RankEngineOptions options_;
  StepClock own_clock_;
  absl::Status ended_;
};

// Collective. The first failure of any rank, naming it, on all of them.
absl::Status PassBarrier(Communicator& world, const absl::Status& mine, absl::Duration deadline,
                         absl::string_view doing) {
  if (world.size() == 1) return mine;
  const BarrierOutcome outcome = StatusBarrier(world, mine, {.deadline = deadline, .doing = doing});
  if (outcome.status.ok()) return absl::OkStatus();
  return Annotate(outcome.status, absl::StrCat("rank ", outcome.failed_rank));
}

// Collective. The tp_rank's ranks by stage, where their devices need it.
absl::StatusOr<std::unique_ptr<Communicator>> JoinStages(Communicator& world,
                                                         const v1::RankShard& shard,
                                                         bool device_links) {
  if (!device_links) return nullptr;
  return world.Split(shard.tp_rank(), shard.pp_stage());
}

}  // namespace

absl::StatusOr<std::unique_ptr<RankEngine>> RankEngine::Create(const ModelFile& file,
                                                               const v1::ShardPlan& plan,
                                                               Communicator* world,
                                                               const RankEngineOptions& options) {
  // Agreed on before the collective Split, which a rank that refused would never join.
  const absl::Status checked = model::CheckPlan(file.description(), plan, world->rank(), world->size());
  TESSERA_RETURN_IF_ERROR(
      PassBarrier(*world, checked, options.load_deadline, "checking the shard plan"));
  const v1::RankShard& shard = plan.ranks(world->rank());
  TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> tp,
                           world->Split(shard.pp_stage(), shard.tp_rank()));
  if (options.clock != nullptr) tp = MakeTimedCommunicator(std::move(tp), options.clock->comm());
  kernels::DeviceOptions device_options = options.device_options;
  if (plan.kv_type() == v1::DATA_TYPE_BF16) device_options.kv_type = kernels::DType::kBF16;
  auto device = kernels::MakeDevice(options.device, device_options);
  TESSERA_RETURN_IF_ERROR(
      PassBarrier(*world, device.status(), options.load_deadline, "opening the device"));
  const bool on_gpu = (*device)->ActivationType() != kernels::DType::kF32;
  TESSERA_ASSIGN_OR_RETURN(
      const bool device_links,
      ChooseLinks(*world, options.comm,
                  {.gpu = on_gpu ? options.device_options.gpu : -1, .has_nccl = HasDeviceLinks()}));
  TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> pp,
                           JoinStages(*world, shard, device_links));
  auto runner = StepRunner::Create({.file = &file,
                                    .plan = &plan,
                                    .world_rank = world->rank(),
                                    .tp = tp.get(),
                                    .pp = pp.get(),
                                    .device_links = device_links,
                                    .deadline = options.result_deadline,
                                    .progress = options.on_progress},
                                   *std::move(device));
  TESSERA_RETURN_IF_ERROR(
      PassBarrier(*world, runner.status(), options.load_deadline, "loading the shard"));
  return std::make_unique<RankEngineImpl>(PipelineLinks(world, plan, options.heartbeat),
                                          std::move(tp), std::move(pp), *std::move(runner),
                                          options);
}

}  // namespace tessera::worker
