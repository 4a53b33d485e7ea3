// What the scheduler knows of a live request and of each of its choices. A choice is a sequence of
// its own: own tokens, own blocks, own id in the plans. Plain data; the scheduler keeps it
// consistent.
//
// A sequence's tokens, from the left:
//
//   | computed | sent, result under way | known, not sent yet | being drawn by a step in flight |
//
// Steps run in the order they were sent, so the next chunk may be sent as soon as all before it has
// been; only the id of a token that is still being drawn is missing (a decode one step ahead).
#ifndef TESSERA_COORDINATOR_SCHEDULE_SEQUENCE_H_
#define TESSERA_COORDINATOR_SCHEDULE_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "coordinator/schedule/prefetch.h"
#include "coordinator/schedule/scheduler.h"
#include "coordinator/schedule/token_constraint.h"

namespace tessera::coordinator {

struct LiveRequest;

// What every step of a decode reads stands first and together, with copies of what it needs of the
// request: of thousands of sequences nothing is in the nearer caches when its turn comes.
struct alignas(64) Sequence {
  enum class State : uint8_t {
    kHeld,     // waits until the request's first choice has computed the prompt
    kWaiting,  // in the queue
    kRunning,
    kOver,  // finished; while steps in flight still write its blocks it keeps them
  };

  int64_t id = 0;  // in plans; also the order of arrival. Unique for the scheduler's life
  std::vector<int32_t> tokens;  // prompt, then emitted
  int computed = 0;
  int sent = 0;
  int64_t drawing_step = 0;  // the newest that draws its next tokens
  int64_t newest_step = 0;   // that held it
  int16_t in_flight = 0;     // steps
  int16_t draws = 0;         // of those, the ones that draw its next tokens; at most 2
  int choice = 0;

  std::vector<int32_t> blocks;
  LiveRequest* request = nullptr;
  int64_t request_id = 0;  // this and the next four: the request's
  int prompt_tokens = 0;
  int max_tokens = 0;
  int num_logprobs = 0;
  int tenant = 0;   // TenantQueue's index
  int promise = 0;  // running: blocks that the known tokens need and that are not taken yet
  State state = State::kHeld;
  bool yielding = false;     // running: planned no more, preempted when its last step is back
  bool draws_alike = false;  // the request's draws do not depend on the tokens before (DrawsAlike)
  bool has_stop_ids = false;

  std::unique_ptr<TokenConstraint> constraint;  // null where draws_alike
  int targets_next = 0;  // prompt position of the next target to ask for; 0: none

  int known() const { return static_cast<int>(tokens.size()); }
  int emitted() const { return known() - prompt_tokens; }
  int next_target() const;  // prompt position of the target to ask for next; 0: none
  // The next token to send is still being drawn.
  bool awaits_token() const { return sent == known(); }
  // One token to go and earlier ones behind it; everything else is (the rest of) a prefill.
  bool decoding() const { return sent > 0 && known() - sent <= 1; }
};

struct LiveRequest {
  ScheduledRequest request;  // its prompt_ids have moved into the first choice's tokens
  int prompt_tokens = 0;
  uint64_t salt = 0;  // keeps tenants' prefixes apart
  int tenant = 0;     // TenantQueue's index
  std::vector<Sequence> choices;
  int leader = 0;                 // the choice that computes the prompt for all
  bool prompt_known = false;      // its keys and values were computed once: nobody is held any more
  int unfinished = 0;             // choices
  int lingering = 0;              // choices that are over, and in a step in flight
  int running = 0;                // choices
  bool needs_last_token = false;  // each draw depends on the token before it, here
  bool admitted = false;          // has run at some time
  absl::Time added_at;
  absl::Time begun_at;            // when it was first admitted, and what it was expected to take
  double expected_prompt = 0;     // then, in microseconds: until its first token;
  double expected_token = 0;      // for each one. 0: not known
  int cached_tokens = 0;          // of the prompt, when the leader was first admitted
  int targets_next = 0;           // prompt position of the next target to tell; 0: none are wanted
  std::vector<int32_t> distinct_prompt_ids;      // with a repetition penalty
  absl::Time check_at = absl::InfiniteFuture();  // its entry in the scheduler's deadlines

  bool has_targets_left() const { return targets_next > 0 && targets_next < prompt_tokens; }
  uint64_t seed(int choice) const {
    return request.seeds.empty() ? request.sampling.seed()
                                 : request.seeds[static_cast<size_t>(choice)];
  }
};

inline int Sequence::next_target() const {
  const bool asks = choice == request->leader && request->has_targets_left();
  return asks ? request->targets_next : 0;
}

// What every step reads of a decode's sequence.
inline void Prefetch(const Sequence& sequence) {
  __builtin_prefetch(&sequence);
  __builtin_prefetch(&sequence.blocks);
}

// Where its next token will be written, or its last one stands.
inline void PrefetchTail(const Sequence& sequence) {
  __builtin_prefetch(sequence.tokens.data() + sequence.tokens.size());
}

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_SEQUENCE_H_
