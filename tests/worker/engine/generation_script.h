// A StepChannel that plays the coordinator: turns a list of requests into StepPlans, one after the
// other, and keeps what comes back. For tests and probes; no clock, no threads of its own.
//
// Each step takes one chunk of every request that is not under way, in order, up to the limits, so
// prompts and decodes mix. With `async_scheduling` every plan is composed before the result of the
// plan before it is there, from -1s that stand for the tokens still being sampled. Ends the group
// (CANCELLED) when every request has its tokens. KV blocks of neighbouring positions are scattered
// on purpose.
//
//   GenerationScript script(plan, requests, {.prompt_chunk = 16});
//   TESSERA_RETURN_IF_ERROR(RunInProcessGroup(*file, plan, &script, {}));
//   script.results()[0].tokens;
#ifndef TESSERA_TESTS_WORKER_ENGINE_GENERATION_SCRIPT_H_
#define TESSERA_TESTS_WORKER_ENGINE_GENERATION_SCRIPT_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/plan.pb.h"
#include "worker/engine/rank_engine.h"

namespace tessera::worker {

// Greedy, without logprobs.
v1::SamplingParams GreedyParams();

struct GenerationRequest {
  std::vector<int32_t> prompt;
  int max_new_tokens = 0;  // 0: the prompt is only evaluated
  v1::SamplingParams sampling = GreedyParams();
  bool return_logits = false;  // of every token that is fed, prompt and generated
  v1::LogitsState logits_state = {};  // bans and mask; what penalties need is filled in
};

struct GenerationResult {
  std::vector<int32_t> tokens;
  std::vector<v1::SampledToken> details;  // as many as tokens
  std::vector<float> logits;              // (tokens fed, vocab)
};

struct GenerationOptions {
  int prompt_chunk = 512;   // prompt tokens of one request per step
  int steps_in_flight = 1;  // requests are dealt over that many steps
  bool async_scheduling = false;  // one step more, composed before its tokens are there
};

class GenerationScript : public StepChannel {
 public:
  GenerationScript(const v1::ShardPlan& plan, std::vector<GenerationRequest> requests,
                   const GenerationOptions& options);

  absl::StatusOr<std::optional<v1::StepPlan>> NextPlan(absl::Duration wait) override;
  absl::Status SendResult(v1::StepResult result) override;

  const std::vector<GenerationResult>& results() const { return results_; }
  int64_t steps() const { return next_step_id_ - 1; }
  // Tokens that plans continued from before they were known.
  int64_t tokens_ahead() const { return tokens_ahead_; }

 private:
  struct Progress {
    std::vector<int32_t> known;  // prompt and generated
    size_t fed = 0;              // of these and of the tokens to come, in plans composed
    int under_way = 0;           // plans composed whose result is not there
    std::vector<int64_t> sampling;  // those of them that sample
  };

  bool Done(size_t request) const;
  bool MayCompose(size_t request) const;
  // Nothing to add when every request is under way or done.
  v1::StepPlan Compose();
  void AddChunk(size_t request, int64_t& budget, v1::StepPlan& step);
  void FillLogitsState(size_t request, v1::SequenceChunk& chunk) const;
  void FillBlockTable(size_t request, int64_t positions, v1::SequenceChunk& chunk) const;

  const v1::ShardPlan plan_;
  const std::vector<GenerationRequest> requests_;
  const GenerationOptions options_;
  std::vector<Progress> progress_;
  std::vector<GenerationResult> results_;
  std::deque<v1::StepPlan> ready_;             // composed, not handed out
  std::map<int64_t, v1::StepPlan> in_flight_;  // composed, the result is not there
  int64_t next_step_id_ = 1;
  int64_t tokens_ahead_ = 0;
  size_t next_request_ = 0;
};

}  // namespace tessera::worker

#endif  // TESSERA_TESTS_WORKER_ENGINE_GENERATION_SCRIPT_H_
