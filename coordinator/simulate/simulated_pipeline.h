// When a group's steps begin and end: a cost model over pipeline stages. Pure; knows no clock.
//
// A step takes base + decodes × per_decode + prompt tokens × per_prefill + what those attend to ×
// per_attended (+ per_chunk with any prompt tokens), split evenly over the stages. Steps begin in the
// order sent, at most one per stage under way, and one that continues from a token still being drawn
// (SequenceChunk.last_token_from_step) begins once that step has ended, as
// worker/engine/serve_loops.h promises.
//
//   SimulatedPipeline pipeline({.base = absl::Milliseconds(20)});
//   SimulatedPipeline::Times times = pipeline.Accept(plan, now);  // times.arrived: the result's
#ifndef TESSERA_COORDINATOR_SIMULATE_SIMULATED_PIPELINE_H_
#define TESSERA_COORDINATOR_SIMULATE_SIMULATED_PIPELINE_H_

#include <cstdint>
#include <deque>
#include <random>
#include <set>
#include <vector>

#include "absl/time/time.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::testing {

struct SimulatedCost {
  absl::Duration base = absl::ZeroDuration();
  absl::Duration per_decode = absl::ZeroDuration();   // chunks of one token that draw
  absl::Duration per_prefill = absl::ZeroDuration();  // tokens of all other chunks
  absl::Duration per_attended = absl::ZeroDuration();  // each token before each of those, and itself
  absl::Duration one_way = absl::ZeroDuration();      // coordinator to leader, and back
  int stages = 1;
  absl::Duration per_chunk = absl::ZeroDuration();  // of a step with prompt tokens, besides those
  // One step in ten, drawn from a fixed seed, takes so many times as long (0: none does).
  double outlier = 0;
  // In every second stretch of so long, all steps take so many times as long (0: in none).
  absl::Duration slow_stretch = absl::ZeroDuration();
  double slowdown = 2;

  bool free() const {
    return base + per_decode + per_prefill + per_attended + per_chunk + one_way ==
           absl::ZeroDuration();
  }
};

absl::Duration StepDuration(const SimulatedCost& cost, const v1::StepPlan& plan);

class SimulatedPipeline {
 public:
  struct Times {
    absl::Time began;
    absl::Time ended;
    absl::Time arrived;    // the result, at the coordinator
    absl::Duration stall;  // StepResult.stall_micros
  };

  explicit SimulatedPipeline(const SimulatedCost& cost);

  Times Accept(const v1::StepPlan& plan, absl::Time sent);

 private:
  struct Step {
    int64_t id = 0;
    absl::Time ended;
    std::set<int64_t> sequences;
  };

  const SimulatedCost cost_;
  std::vector<absl::Time> stage_free_;
  std::deque<Step> recent_;  // newest first
  std::mt19937 random_{1};
};

}  // namespace tessera::testing

#endif  // TESSERA_COORDINATOR_SIMULATE_SIMULATED_PIPELINE_H_
