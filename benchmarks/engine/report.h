// What a bench run prints: one JSON object on one line.
//
// {"model": "SmolLM2-...", "format": "Q4_1", "device": "cpu avx512", "tensor_parallel": 1,
//  "pipeline_parallel": 1, "threads_per_rank": 2, "steps_in_flight": 1,
//  "communicator": "null", "weight_bytes_per_token": 97000000,
//  "load_seconds": 0.2,
//  "tests": [{"name": "tg128", "streams": 1, "depth": 0, "prompt": 0, "decode": 128,
//             "seconds": [...], "tokens_per_second": 120.3, "read_gb_per_s": 31.2,
//             "share_of_read": 0.61}, ...],
//  "rank_seconds": [{"computing": 3.1, "waiting": 0.1, "transferring": 0.1, "idle": 0.1,
//                    "late": 0.05}, ...]}
//
// tokens_per_second is of the median repetition. For runs that only decode: read_gb_per_s, the
// median of the read speeds before each repetition, and share_of_read, the weights' bytes per step
// times steps per second over the read speed just before, of the median repetition. rank_seconds:
// StepTimes of each rank over all tests, warming up included.
#ifndef TESSERA_BENCHMARKS_ENGINE_REPORT_H_
#define TESSERA_BENCHMARKS_ENGINE_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "benchmarks/engine/bench_script.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::worker {

struct BenchSetting {
  std::string device;
  std::string communicator;
  int threads_per_rank = 1;
  int steps_in_flight = 1;  // over which the streams of a test are dealt
  double load_seconds = 0;
  std::vector<v1::StepTimes> rank_times = {};
};

// The bytes that one decode step must read on all ranks together: every matrix once, the embedding
// only where it is the output head too.
int64_t WeightBytesPerToken(const v1::ModelDescription& model, const v1::ShardPlan& plan);

std::string BenchReport(const v1::ModelDescription& model, const v1::ShardPlan& plan,
                        const BenchSetting& setting, const std::vector<BenchTiming>& timings);

}  // namespace tessera::worker

#endif  // TESSERA_BENCHMARKS_ENGINE_REPORT_H_
