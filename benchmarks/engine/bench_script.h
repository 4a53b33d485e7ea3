// A StepChannel that plays timed runs on one engine: prompts, decodes, or both, of many streams.
//
// The streams are dealt over as many groups as there are steps in flight. Within a group prompts go
// first, one stream per step and as many tokens as the coordinator would send (pipeline_fill.h),
// then all its streams decode together. Tokens are sampled greedily and fed back, so that a run
// contains what serving contains except the network.
//
// Threads: the engine thread of rank 0.
//
//   BenchScript script(plan, {{.name = "pp512", .prompt = 512}}, {.repetitions = 3});
//   engine->Serve(&script);
//   script.timings()[0].seconds;
#ifndef TESSERA_BENCHMARKS_ENGINE_BENCH_SCRIPT_H_
#define TESSERA_BENCHMARKS_ENGINE_BENCH_SCRIPT_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/plan.pb.h"
#include "worker/engine/rank_engine.h"

namespace tessera::worker {

// What every stream of a run does.
struct BenchRun {
  std::string name;
  int streams = 1;
  int depth = 0;   // tokens that are in the KV cache before the clock starts
  int prompt = 0;  // tokens, timed
  int decode = 0;  // tokens after it, one by one, timed
};

struct BenchTiming {
  BenchRun run;
  std::vector<double> seconds;  // of each repetition
  // Just before each of them, where it only decodes and somebody measures (BenchOptions).
  std::vector<double> read_bytes_per_second;

  int64_t tokens() const { return int64_t{run.streams} * (run.prompt + run.decode); }
};

struct BenchOptions {
  int repetitions = 5;             // of each run,
  bool warm_up = true;             // after one that is not timed
  int prompt_tokens_per_step = 0;  // at most; 0: as the coordinator would
  int steps_in_flight = 1;         // at least 1
  // How fast memory is read now, in bytes per second; null: nobody measures.
  std::function<double()> read_speed = nullptr;
};

class BenchScript : public StepChannel {
 public:
  BenchScript(const v1::ShardPlan& plan, std::vector<BenchRun> runs, const BenchOptions& options);

  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration wait) override;
  absl::Status SendResult(v1::StepResult result) override;

  const std::vector<BenchTiming>& timings() const { return timings_; }

 private:
  using Clock = std::chrono::steady_clock;

  struct Stream {
    int position = 0;  // tokens fed
    int prompt_left = 0;
    int decode_left = 0;
    int32_t last_token = 1;
  };

  // One pass over a run: filling its KV cache (not timed), or what it times.
  struct Pass {
    size_t run = 0;
    bool fills = false;
    bool timed = false;
  };

  void Begin(const Pass& pass);
  std::optional<v1::StepPlan> Compose(size_t group);
  int PromptTokensPerStep() const;
  void AddChunk(size_t stream, int tokens, v1::StepPlan& step) const;
  bool GroupIdle(size_t group) const;

  const v1::ShardPlan plan_;
  const BenchOptions options_;
  const size_t groups_;
  std::vector<BenchTiming> timings_;
  std::deque<Pass> passes_;
  std::optional<Pass> pass_;
  std::vector<Stream> streams_;
  std::vector<std::optional<v1::StepPlan>> in_flight_;  // per group
  int64_t next_step_id_ = 1;
  Clock::time_point began_;
};

}  // namespace tessera::worker

#endif  // TESSERA_BENCHMARKS_ENGINE_BENCH_SCRIPT_H_
