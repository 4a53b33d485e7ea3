#include "worker/engine/rank_engine.h"

#include <utility>

#include "proto/wire/status_macros.h"
#include "worker/engine/agreement.h"
#include "worker/engine/pipeline_links.h"
#include "worker/engine/serve_loops.h"
#include "worker/engine/step_runner.h"
#include "worker/model/shard_slices.h"

namespace tessera::worker {
namespace {

class RankEngineImpl : public RankEngine {
 public:
  RankEngineImpl(PipelineLinks links, std::unique_ptr<Communicator> tp,
                 std::unique_ptr<StepRunner> runner, RankEngineOptions options)
      : links_(std::move(links)),
        tp_(std::move(tp)),
        runner_(std::move(runner)),
        options_(std::move(options)) {
    if (options_.clock == nullptr) options_.clock = &own_clock_;
  }

  absl::Status Serve(StepChannel* channel) override {
    if (!links_.is_leader()) return ServeAsFollower(*runner_, links_, *options_.clock);
    if (channel == nullptr) return absl::InvalidArgumentError("the leader needs a step channel");
    return ServeAsLeader(*runner_, links_, *channel, options_);
  }

  std::string DeviceName() const override { return runner_->DeviceName(); }

 private:
  PipelineLinks links_;
  std::unique_ptr<Communicator> tp_;  // outlives the runner, which borrows it
  std::unique_ptr<StepRunner> runner_;
  RankEngineOptions options_;
  StepClock own_clock_;
};

absl::StatusOr<std::unique_ptr<StepRunner>> Load(const ModelFile& file, const v1::ShardPlan& plan,
                                                 int world_rank, Communicator* tp,
                                                 const RankEngineOptions& options) {
  kernels::DeviceOptions device_options = options.device_options;
  if (plan.kv_type() == v1::BF16) device_options.kv_type = kernels::DType::kBF16;
  TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Device> device,
                           kernels::MakeDevice(options.device, device_options));
  return StepRunner::Create({.file = &file,
                             .plan = &plan,
                             .world_rank = world_rank,
                             .tp = tp,
                             .progress = options.on_progress},
                            std::move(device));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RankEngine>> RankEngine::Create(const ModelFile& file,
                                                               const v1::ShardPlan& plan,
                                                               Communicator* world,
                                                               const RankEngineOptions& options) {
  // Agreed on before the collective Split, which a rank that refused would never join.
  const absl::Status checked = CheckPlan(file.description(), plan, world->rank(), world->size());
  TESSERA_RETURN_IF_ERROR(
      AgreeOnStatus(*world, checked, options.load_deadline, "checking the shard plan"));
  const v1::RankShard& shard = plan.ranks(world->rank());
  TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> tp,
                           world->Split(shard.pp_stage(), shard.tp_rank()));
  if (options.clock != nullptr) tp = MakeTimedCommunicator(std::move(tp), options.clock->comm());
  auto runner = Load(file, plan, world->rank(), tp.get(), options);
  TESSERA_RETURN_IF_ERROR(
      AgreeOnStatus(*world, runner.status(), options.load_deadline, "loading the shard"));
  return std::make_unique<RankEngineImpl>(PipelineLinks(world, plan, options.heartbeat),
                                          std::move(tp), *std::move(runner), options);
}

}  // namespace tessera::worker
