// One rank at work: its shard of the model, its KV cache, its place in the group.
//
// The engine thread calls everything here and every communicator call happens inside. The leader
// (world rank 0 = stage 0, tp_rank 0) is fed by a StepChannel; the other ranks by their neighbours:
//
//   leader ─ header ─▶ tp peers of stage 0
//   (stage s, tp t) ─ header + activations ─▶ (stage s+1, tp t)
//   (last stage, tp 0) ─ StepResult ─▶ leader
//
// The leader may hold several steps in flight (up to the number of stages, or two where a stage
// is scheduled asynchronously): it accepts the next plan while results are outstanding. An idle
// group spins briefly, then yields, then sleeps.
//
//   TESSERA_ASSIGN_OR_RETURN(auto engine, RankEngine::Create(*file, plan, world, options));
//   absl::Status ended = engine->Serve(channel);   // channel: leader only, else nullptr
#ifndef TESSERA_WORKER_ENGINE_RANK_ENGINE_H_
#define TESSERA_WORKER_ENGINE_RANK_ENGINE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/device.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/plan.pb.h"
#include "worker/comm/communicator.h"
#include "worker/engine/link_choice.h"
#include "worker/engine/step_clock.h"
#include "worker/files/model_file.h"

namespace tessera::worker {

// Where the leader's plans come from and its results go. Called by the engine thread only; the
// implementation synchronizes with whoever is on the other side.
class StepChannel {
 public:
  virtual ~StepChannel() = default;
  // The next plan, waiting at most `wait` (zero = do not wait); nullopt when there is none.
  // CANCELLED: an orderly end was asked for; any other error: the channel broke.
  virtual absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration wait) = 0;
  virtual absl::Status SendResult(v1::StepResult result) = 0;
};

struct RankEngineOptions {
  std::string device = "cpu";  // or "cuda", "auto"
  LinkPreference comm = LinkPreference::kAuto;
  kernels::DeviceOptions device_options;
  // Called on the engine thread now and then while loading, and once at the end.
  std::function<void(int64_t bytes_loaded, int64_t bytes_total)> on_progress;
  // The leader sends a heartbeat down the pipeline this often, and every rank that computes does so
  // between operations: each rank's wait for the one before it has a deadline (the communicator's)
  // that does not depend on how long a step takes. Well below that deadline.
  absl::Duration heartbeat = absl::Seconds(5);
  // Leader: how long the last stage may be silent, heartbeats included, while a result is due. All:
  // how long a step may be on this rank's device.
  absl::Duration result_deadline = absl::Seconds(60);
  // Leader: a plan that is further away than this came to an idle group, not to one that was kept
  // waiting (StepResult.stall_micros).
  absl::Duration longest_stall = absl::Seconds(1);
  // Where this rank's time goes; outlives the engine. Null: nobody wants to know.
  StepClock* clock = nullptr;
  // How long one rank may load longer than another.
  absl::Duration load_deadline = absl::Minutes(30);

  // Heartbeat and result deadline that fit a communicator with this deadline.
  void SetPatience(absl::Duration comm_deadline) {
    heartbeat = std::min(absl::Seconds(5), comm_deadline / 4);
    result_deadline = comm_deadline;
  }
};

class RankEngine {
 public:
  virtual ~RankEngine() = default;

  // Checks `plan` against the file and the world (sizes, ranges; INVALID_ARGUMENT naming both
  // sides), loads this rank's ranges and allocates its KV cache. `world` must outlive the engine.
  // Collective: every rank calls it with the same plan. When it fails on one rank it fails on all,
  // with that rank's error; when it succeeds, every rank has loaded.
  static absl::StatusOr<std::unique_ptr<RankEngine>> Create(const ModelFile& file,
                                                            const v1::ShardPlan& plan,
                                                            Communicator* world,
                                                            const RankEngineOptions& options);

  // Runs steps until the channel ends (leader) or the leader says so (others): OK. Any other return
  // means that the group is dead. A plan that does not fit (a block or token id out of range, more
  // tokens than agreed) is INVALID_ARGUMENT and ends the group: the coordinator lied.
  virtual absl::Status Serve(StepChannel* channel) = 0;

  virtual std::string DeviceName() const = 0;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_RANK_ENGINE_H_
