// What the server counts, in Prometheus' text format; vLLM's names under our prefix. What is of a
// group has the label `group`: its place among the router's groups.
//
// Safe from any thread. Recording costs well under a microsecond.
//
//   auto metrics = Metrics::Create();
//   metrics->FirstToken(absl::Milliseconds(61));
//   body = metrics->Serialize();        // GET /metrics
#ifndef TESSERA_COORDINATOR_ENGINE_METRICS_H_
#define TESSERA_COORDINATOR_ENGINE_METRICS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/schedule/scheduler.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::coordinator {

// One request as it ended.
struct EndedRequest {
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string finish_reason;  // "stop", "length"; empty unless OK
  absl::Duration end_to_end;
  absl::Duration queued;      // until its first step
  int prompt_tokens = 0;
  int generation_tokens = 0;
};

class Metrics {
 public:
  virtual ~Metrics() = default;
  static std::unique_ptr<Metrics> Create();

  virtual void SetModel(const std::string& name) = 0;  // the label model_name
  virtual void FirstToken(absl::Duration since_arrival) = 0;
  virtual void InterToken(absl::Duration since_last) = 0;
  virtual void RequestEnded(const EndedRequest& request) = 0;

  // A group has joined at this place: what it tells from now on begins at zero, and the place's
  // counters go on growing from where the group before left them.
  virtual void BeginGroup(int group) = 0;
  // After every turn of its engine: gauges, and counters that grow with the stats of its life.
  virtual void SchedulerState(int group, const SchedulerStats& stats) = 0;
  // A rank's sums since it started to serve.
  virtual void RankTimes(int group, int world_rank, const v1::StepTimes& times) = 0;

  // A group that served is gone; so many of its requests go on with others.
  virtual void GroupLost() = 0;
  virtual void RequestsMoved(int count) = 0;

  virtual std::string Serialize() const = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_METRICS_H_
