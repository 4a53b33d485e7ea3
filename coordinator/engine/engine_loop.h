// The serving core of one group: one thread that owns the Scheduler and turns requests into streams
// of tokens. API threads only queue work; the transport only queues results.
//
//   EngineLoop loop(options);          // an observer of its group; starts its thread
//   auto id = loop.Submit(request, sink);
//   loop.Cancel(id);                   // blocks are free within one step
#ifndef TESSERA_COORDINATOR_ENGINE_ENGINE_LOOP_H_
#define TESSERA_COORDINATOR_ENGINE_ENGINE_LOOP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/engine/metrics.h"
#include "coordinator/engine/served_model.h"
#include "coordinator/group/group.h"
#include "coordinator/plan/shard_planner.h"
#include "coordinator/schedule/scheduler.h"
#include "coordinator/schedule/token_constraint.h"
#include "coordinator/text/tokenizer/text_stream.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// Receives one request's output. Called on the loop's thread; must not block. After Finish or Fail
// nothing more is called.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // No usage set. A finish_reason ends that choice while others go on.
  virtual void Push(v1::GenerateResponse chunk) = 0;
  // The last message of all: finish_reason (of its choice) and usage set.
  virtual void Finish(v1::GenerateResponse last) = 0;
  virtual void Fail(absl::Status why) = 0;
};

struct GenerationRequest {
  std::vector<int32_t> prompt_ids;
  v1::SamplingOptions sampling;  // checked by Submit
  std::string request_id;
  std::string tenant;
  int32_t priority = 0;
  absl::Time deadline = absl::InfiniteFuture();
  absl::Time arrival = absl::InfinitePast();      // InfinitePast: when it is submitted
  TextBefore text_before = TextBefore::kNothing;  // kPrompt: the answer continues the prompt's text
  // What sampling.structured was compiled to; null without.
  std::shared_ptr<const TokenConstraint> constraint = nullptr;
  // Not -1: a score. Nothing is generated; the one message, Finish's, holds in prompt_logprobs one
  // entry for each token from this position on (at least 1), with sampling.prompt_logprobs
  // alternatives each.
  int score_from = -1;
};

struct EngineLoopOptions {
  Layout layout;
  std::string served_model_name;  // empty: the model's own
  int max_queue = 1024;
  // Of a group whose stages do not take turns (v1::Hello); of such a group one.
  int max_steps_in_flight = 1;
  bool lookahead = true;       // these as SchedulerLimits has them
  bool prefix_caching = true;
  SchedulingPolicy policy = SchedulingPolicy::kFcfs;
  std::map<std::string, double> tenant_weights = {};
  double prefill_stretch = 2.0;
  Metrics* metrics = nullptr;  // outlives the loop; null: not counted
};

class EngineLoop : public GroupObserver {
 public:
  static std::unique_ptr<EngineLoop> Create(const EngineLoopOptions& options);

  // Whether a request would be let in now: RESOURCE_EXHAUSTED with RetryInfo (queue), UNAVAILABLE (no
  // serving group or draining).
  virtual absl::Status CheckAdmission() const = 0;
  // The id for Cancel. As CheckAdmission; INVALID_ARGUMENT for what does not fit or is out of range.
  // The sink may hear of tokens before this returns.
  virtual absl::StatusOr<int64_t> Submit(GenerationRequest request,
                                         std::shared_ptr<TokenSink> sink) = 0;
  // The sink hears nothing more. Nothing happens when the request has ended.
  virtual void Cancel(int64_t id) = 0;
  // The same, but the sink hears of it: Fail(why).
  virtual void Abort(int64_t id, absl::Status why) = 0;

  // The model of the group that serves now, or null.
  virtual std::shared_ptr<const ServedModel> model() const = 0;
  virtual v1::GetClusterStatusResponse Status() const = 0;
  virtual bool serving() const = 0;  // a group serves and the loop does not drain

  // Refuses new requests, lets the running ones end within `grace`, aborts the rest with
  // UNAVAILABLE, and shuts the group down.
  virtual void Drain(absl::Duration grace) = 0;

  // Blocks until the group serves, has failed, or `timeout` passed.
  virtual absl::Status WaitServing(absl::Duration timeout) = 0;

  // `listener` is told at once and after every change whether a group serves (and the loop does not
  // drain). Called under the loop's lock: must not block or call back. Null: nobody listens.
  virtual void SetServingListener(std::function<void(bool serving)> listener) = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_ENGINE_LOOP_H_
