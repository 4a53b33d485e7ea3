// The steps that the leader has begun, those under way and the last few done: which sequences they
// ran and which tokens they sampled.
//
// So a plan may continue a sequence before the coordinator knows its last token: the plan says -1
// and names the step that samples it (SequenceChunk.last_token_from_step), and FillIn puts the
// token there before anything is checked or sent to a rank. Nothing is said twice: a plan that
// names an unknown step, or a sequence for which that step samples no token, is refused at once.
//
// Bounded: with s stages the coordinator has at most s + 1 steps out, so a plan can only refer to
// one of the s + 1 steps before it; twice as many are kept. Threads: the engine thread.
//
// Where the device keeps what it samples, a plan may even begin before its token is there:
// FillInWithPlaceholders puts a placeholder instead (placeholder_tokens.h).
//
//   RecentSteps recent(links.stages());
//   TESSERA_ASSIGN_OR_RETURN(const bool ready, recent.FillIn(plan));
//   if (ready) recent.Begin(plan);  ...  recent.End(result);
#ifndef TESSERA_WORKER_ENGINE_RECENT_STEPS_H_
#define TESSERA_WORKER_ENGINE_RECENT_STEPS_H_

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tessera/v1/cluster.pb.h"
#include "worker/engine/placeholder_tokens.h"

namespace tessera::worker {

class RecentSteps {
 public:
  explicit RecentSteps(int stages) : kept_(2 * (static_cast<size_t>(stages) + 1)) {}

  // Puts the sampled tokens in place of the plan's -1s, and appends them to
  // logits_state.output_ids where a penalty is on; last_token_from_step becomes 0. False, with the
  // plan unchanged, while a token is still being sampled. INVALID_ARGUMENT naming step and chunk
  // when the token is none that a recent step samples, or does not stand last as -1. The plan is
  // otherwise unchecked.
  absl::StatusOr<bool> FillIn(v1::StepPlan& plan) const;

  // As FillIn for a plan that begins right behind the newest step: tokens which that one still
  // samples get placeholders, as pending_tokens() counts them. False, with the plan unchanged,
  // while another step samples one of the tokens.
  absl::StatusOr<bool> FillInWithPlaceholders(v1::StepPlan& plan) const;
  // What the newest step still samples.
  PendingTokens pending_tokens() const;

  // The step is under way; call in the order of the plans.
  void Begin(const v1::StepPlan& plan);
  // Its result is there. INTERNAL when the tokens are not those of the step's sequences.
  absl::Status End(const v1::StepResult& result);

  // Whether the plan goes on with a sequence of these steps.
  bool Continues(const v1::StepPlan& plan) const;

 private:
  struct Step {
    int64_t step_id = 0;
    std::unordered_set<int64_t> sequences;       // of all chunks
    std::unordered_map<int64_t, size_t> sample_of;  // sequence → index in `sampling`
    std::vector<int64_t> sampling;  // sequences of the chunks with sampling, in order
    std::vector<int32_t> tokens;    // one for each of `sampling` once done
    bool done = false;
  };
  struct Lookup {
    bool known = false;
    bool sampled = false;
    int32_t token = -1;  // while it is not sampled: its placeholder
  };

  const Step* Find(int64_t step_id) const;
  Lookup TokenOf(int64_t sequence_id, int64_t step_id) const;
  // pending_step: the step whose tokens need not be there; 0: none.
  absl::StatusOr<bool> IsReady(const v1::SequenceChunk& chunk, int64_t pending_step) const;
  absl::StatusOr<bool> FillIn(v1::StepPlan& plan, int64_t pending_step) const;

  const size_t kept_;
  std::deque<Step> steps_;  // oldest first
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_RECENT_STEPS_H_
