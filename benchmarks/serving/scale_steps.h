// What a step costs the coordinator: CPU time of Scheduler::Schedule and Commit.
//
//   StepCpu cpu = MeasureSteps({.sequences = 64, .steps = 500});
#ifndef TESSERA_BENCHMARKS_SERVING_SCALE_STEPS_H_
#define TESSERA_BENCHMARKS_SERVING_SCALE_STEPS_H_

#include <cstdint>

namespace tessera::benchmarks {

struct StepsOptions {
  int sequences = 64;  // running at once, each with a prompt of 64 to 960 tokens
  int steps = 500;     // measured ones
  // Answers end after 100 to 300 tokens and others take their place, so that steps hold prompt
  // chunks too. Off: the same sequences decode all the time.
  bool churn = false;
};

// Microseconds.
struct StepCpu {
  double mean = 0;       // Schedule and Commit
  double p99 = 0;        // of single steps
  double serialize = 0;  // mean; of the plan, as the transport does it, not part of the above
  double context = 0;    // tokens, mean over the sequences of the last step
};

StepCpu MeasureSteps(const StepsOptions& options);

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_SCALE_STEPS_H_
