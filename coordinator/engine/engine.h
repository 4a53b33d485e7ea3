// The serving core of one worker group: a thread that owns the group's Scheduler and turns requests
// into streams of tokens. Knows no door and no other group; the router (coordinator/router) makes
// one when a group joins and lets it go when that group is lost.
//
// Every method but the destructor may be called from any thread and returns at once; each only
// queues work for the engine's thread. The engine calls its owner on that thread, without its own
// lock, so that the owner may call it with the owner's lock held. The destructor does what is
// queued, fails what is left and waits for the thread.
//
//   auto engine = Engine::Create(options, {.model = model, .transport = transport}, this);
//   engine->OnReady();
//   engine->Add(std::move(admitted));
//   engine->Cancel(id);               // blocks are free within one step
#ifndef TESSERA_COORDINATOR_ENGINE_ENGINE_H_
#define TESSERA_COORDINATOR_ENGINE_ENGINE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/engine/admit.h"
#include "coordinator/engine/metrics.h"
#include "coordinator/engine/request_record.h"
#include "coordinator/engine/served_model.h"
#include "coordinator/group/group.h"
#include "coordinator/plan/shard_planner.h"
#include "coordinator/schedule/scheduler.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

struct EngineOptions {
  Layout layout;
  std::string served_model_name;  // empty: the model's own
  // What the group's plan decides (blocks, tokens and sequences per step, lengths) is taken from
  // there. max_steps_in_flight is for a group whose stages do not take turns (v1::Hello).
  SchedulerLimits limits;
  absl::Duration failure_timeout = absl::Seconds(1);  // FailureDetectorOptions'
  Metrics* metrics = nullptr;  // outlives the engines; null: not counted
};

// The group that an engine serves.
struct EngineGroup {
  GroupHandle handle{};  // the owner's
  int place = 0;  // among the router's groups: the label `group` of its metrics
  std::shared_ptr<const ServedModel> model;
  std::shared_ptr<GroupTransport> transport;
};

// What a router weighs, as of the last step. Times are learned from steps; 0: not known yet.
struct EngineLoad {
  bool serving = false;
  bool has_room = false;  // CheckRoom is OK
  int live = 0;           // requests
  int slots = 0;  // sequences at once
  int64_t waiting_tokens = 0;  // of prompts that wait
  double step_micros = 0;      // with one decode,
  double decode_micros = 0;    // for each more,
  double prompt_token_micros = 0;
};

// Whoever owns requests and engines.
class EngineOwner {
 public:
  virtual ~EngineOwner() = default;
  // Requests that have heard their last word, or were cancelled.
  virtual void OnEnded(const std::vector<int64_t>& ids) = 0;
  // Requests that the group had when it was lost, as far as it had come with them. Nobody has told
  // their clients; what becomes of them is the owner's to say.
  virtual void OnUnfinished(std::vector<AdmittedRequest> requests) = 0;
  // The engine has given up its group, which told it something wrong. OnLost is still to come.
  virtual void OnGroupFailed(GroupHandle group, const absl::Status& why) = 0;
};

class Engine {
 public:
  enum class Phase { kLoading, kServing, kLeft, kFailed };

  // The owner outlives the engine.
  static std::unique_ptr<Engine> Create(const EngineOptions& options, const EngineGroup& group,
                                        EngineOwner* owner);
  virtual ~Engine() = default;

  virtual int place() const = 0;
  virtual Phase phase() const = 0;
  virtual const std::shared_ptr<const ServedModel>& model() const = 0;
  virtual const std::shared_ptr<GroupTransport>& transport() const = 0;
  virtual v1::GroupStatus Status() const = 0;
  virtual int running() const = 0;
  virtual int waiting() const = 0;
  virtual EngineLoad load() const = 0;

  // RESOURCE_EXHAUSTED with RetryInfo when the queue is full. While the group serves.
  virtual absl::Status CheckRoom() const = 0;
  virtual void Add(AdmittedRequest request) = 0;
  // The sink hears nothing more. Nothing happens when the request has ended. False: the group is
  // lost, and the request is among those that the owner gets back, or has got.
  virtual bool Cancel(int64_t id) = 0;
  // The same, but the sink hears of it: Fail(why).
  virtual bool Abort(int64_t id, absl::Status why) = 0;
  virtual void AbortAll(absl::Status why) = 0;

  // What the group says, as GroupObserver has it.
  virtual void OnRankReport(const v1::RankReport& report) = 0;
  virtual void OnReady() = 0;
  virtual void OnStepResult(v1::StepResult result) = 0;
  virtual void OnLost(const absl::Status& why) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_ENGINE_H_
