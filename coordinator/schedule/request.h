// What goes into the scheduler and comes out of it: a request as the engine hands it over, and what
// is said of it step by step. Plain data.
//
//   scheduler.Add({.id = 7, .prompt_ids = ids, .max_tokens = 64}, now);
//   for (const Emission& emission : emissions) if (emission.token != nullptr) ...
#ifndef TESSERA_COORDINATOR_SCHEDULE_REQUEST_H_
#define TESSERA_COORDINATOR_SCHEDULE_REQUEST_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/schedule/token_constraint.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::coordinator {

// A choice of a request whose group was lost, as far as its client has heard of it.
struct ChoiceSoFar {
  std::vector<int32_t> output_ids = {};
  bool over = false;  // its last word is said
};

// What the scheduler needs of a request. Checked by the caller (the engine) except where
// Scheduler::Add says so.
struct ScheduledRequest {
  int64_t id = 0;                        // unique among the live ones
  std::vector<int32_t> prompt_ids = {};  // at least one
  int max_tokens = 1;                    // at least 1; 0: only the prompt is computed (score)
  v1::SamplingParams sampling = {};      // its seed is replaced by the choice's
  std::vector<uint64_t> seeds = {};      // one per choice; empty: one choice, sampling.seed
  std::vector<int32_t> stop_ids = {};    // sampling one of these finishes the choice
  int min_tokens = 0;                    // stop_ids are banned for the first so many tokens
  std::vector<std::vector<int32_t>> bad_words = {};  // token sequences that are never completed
  std::shared_ptr<const TokenConstraint> constraint = nullptr;  // cloned for each choice
  // Log probabilities of prompt tokens: those at positions >= prompt_logprobs_from (at least 1),
  // with num_prompt_logprobs alternatives each. They come with Emissions, in order. -1: none. Such
  // a prompt is computed whole from prompt_logprobs_from - 1 on, whatever the prefix cache holds.
  int prompt_logprobs_from = -1;
  int num_prompt_logprobs = 0;
  std::string tenant = {};
  int32_t priority = 0;  // lower first
  absl::Time deadline = absl::InfiniteFuture();
  bool return_logits = false;
  // Not empty: it was admitted before, by the scheduler of a group that was lost, and goes on from
  // here; one for each choice. Prompt and output_ids are computed again, and nothing of them is
  // emitted a second time. It goes before requests that come for the first time.
  std::vector<ChoiceSoFar> so_far = {};
  // A group was lost while it computed this, and it has had no further token since: it may be the
  // cause. Until it has one it is computed beside none but those that have had one here.
  bool is_suspect = false;
  // So many groups were lost while it alone could be the cause.
  int losses = 0;
};

enum class FinishCause { kNone, kStopToken, kLength, kCancelled, kDeadline };

// What Commit or Schedule tell of a request, or of one choice of it. A request whose
// choices have all finished is forgotten.
struct Emission {
  int64_t request_id = 0;
  // One token of the result passed to Commit, and valid as long as that is; or null (prompt log
  // probabilities alone, deadline). The stop token itself is emitted, with kStopToken.
  const v1::SampledToken* token = nullptr;
  FinishCause finished = FinishCause::kNone;
  int choice = 0;  // of token and finished; kDeadline ends all choices in one emission
  std::vector<v1::PromptLogprob> prompt_logprobs = {};  // in order, as they become known
  int cached_tokens = 0;  // with a choice's first token: of the prompt, found in the prefix cache
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_REQUEST_H_
