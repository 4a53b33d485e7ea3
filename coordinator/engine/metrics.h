// What the server counts, in Prometheus' text format; vLLM's names under our prefix.
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
  // After every turn of the loop: gauges, and counters that grow with the stats of one group's life
  // (they go on growing over the next group's).
  virtual void SchedulerState(const SchedulerStats& stats) = 0;

  // A rank's sums since it started to serve; the counters go on growing over the next group's.
  virtual void RankTimes(int world_rank, const v1::StepTimes& times) = 0;

  virtual std::string Serialize() const = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_METRICS_H_
