// A group that costs about what the default model costs on two cores, and requests for it: for the
// scheduler's tests in virtual time.
//
//   Simulation simulation(Limits(), kCost);
//   simulation.Submit(absl::ZeroDuration(), Request(/*id=*/1, /*prompt_tokens=*/40, 16));
#ifndef TESSERA_TESTS_COORDINATOR_SIMULATE_SIMULATED_REQUESTS_H_
#define TESSERA_TESTS_COORDINATOR_SIMULATE_SIMULATED_REQUESTS_H_

#include <cstdint>
#include <random>

#include "absl/time/time.h"
#include "coordinator/schedule/scheduler.h"
#include "coordinator/simulate/simulated_model.h"
#include "coordinator/simulate/simulated_pipeline.h"

namespace tessera::testing {

inline constexpr SimulatedCost kCost = {.base = absl::Milliseconds(20),
                                 .per_decode = absl::Milliseconds(1),
                                 .per_prefill = absl::Milliseconds(1),
                                 .one_way = absl::Microseconds(300)};

inline coordinator::SchedulerLimits Limits() {
  coordinator::SchedulerLimits limits;
  limits.num_blocks = 4096;
  limits.max_model_len = 8192;
  limits.vocab_size = SimulatedModel{}.vocab_size;
  return limits;
}

// No two prompts begin alike: the prefix cache is not what is tested here.
inline coordinator::ScheduledRequest Request(int64_t id, int prompt_tokens, int max_tokens) {
  std::mt19937 random(static_cast<unsigned>(id));
  coordinator::ScheduledRequest request;
  request.id = id;
  for (int i = 0; i < prompt_tokens; ++i) {
    request.prompt_ids.push_back(static_cast<int32_t>(random() % 256));
  }
  request.max_tokens = max_tokens;
  return request;
}

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_COORDINATOR_SIMULATE_SIMULATED_REQUESTS_H_
