// The steps that the leader has begun, those under way and the last few done: which sequences they
// ran and which tokens they drew.
//
// So a plan may continue a sequence before the coordinator knows its last token: the plan says -1
// and names the step that draws it (SequenceChunk.last_token_from_step), and FillIn puts the token
// there before anything is checked or sent to a rank. Nothing is said twice: a plan that names an
// unknown step, or a sequence for which that step draws no token, is refused at once.
//
// Bounded: with s stages the coordinator has at most s + 1 steps out, so a plan can only refer to
// one of the s + 1 steps before it; twice as many are kept. Threads: the engine thread.
//
// Where the device keeps what it draws, a plan may even begin before its token is there: Feed names
// the draw instead (fed_tokens.h).
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
#include "worker/engine/fed_tokens.h"

namespace tessera::worker {

class RecentSteps {
 public:
  explicit RecentSteps(int stages) : kept_(2 * (stages + 1)) {}

  // Puts the drawn tokens in place of the plan's -1s, and appends them to draw.output_ids where a
  // penalty is on; last_token_from_step becomes 0. False, with the plan unchanged, while a token is
  // still being drawn. INVALID_ARGUMENT naming step and chunk when the token is none that a recent
  // step draws, or does not stand last as -1. The plan is otherwise unchecked.
  absl::StatusOr<bool> FillIn(v1::StepPlan& plan) const;

  // The same for a plan that begins right behind the newest step: tokens which that one still draws
  // are named as open_draws() counts them. False, with the plan unchanged, while another step draws
  // one of the tokens.
  absl::StatusOr<bool> Feed(v1::StepPlan& plan) const;
  // What the newest step still draws.
  OpenDraws open_draws() const;

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
    std::unordered_map<int64_t, size_t> draw_of;  // sequence → index in `drawing`
    std::vector<int64_t> drawing;                // sequences of the chunks with sampling, in order
    std::vector<int32_t> tokens;                 // one for each of `drawing` once done
    bool done = false;
  };
  struct Lookup {
    bool known = false;
    bool drawn = false;
    int32_t token = -1;  // while it is not drawn: the draw, as a fed token
  };

  const Step* Find(int64_t step_id) const;
  Lookup TokenOf(int64_t sequence_id, int64_t step_id) const;
  // fed_from: the step whose draws need not be there; 0: none.
  absl::StatusOr<bool> IsReady(const v1::SequenceChunk& chunk, int64_t fed_from) const;
  absl::StatusOr<bool> FillIn(v1::StepPlan& plan, int64_t fed_from) const;

  const size_t kept_;
  std::deque<Step> steps_;  // oldest first
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_RECENT_STEPS_H_
