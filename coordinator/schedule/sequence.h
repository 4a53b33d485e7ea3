// What the scheduler knows of a live request and of each of its choices. A choice is a sequence of
// its own: own tokens, own blocks, own id in the plans. Plain data: the scheduler owns the
// requests, the parts change the fields that are theirs (each says which below).
//
// A sequence's tokens, from the left:
//
//   | computed | sent, result under way | known, not sent yet | being sampled by a step in flight |
//
// Steps run in the order they were sent, so the next chunk may be sent as soon as all before it has
// been; only the id of a token that is still being sampled is missing (a decode one step ahead).
//
//   if (sequence.decoding() && !sequence.awaits_token()) ...   // its next token can be computed
#ifndef TESSERA_COORDINATOR_SCHEDULE_SEQUENCE_H_
#define TESSERA_COORDINATOR_SCHEDULE_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "coordinator/schedule/prefetch.h"
#include "coordinator/schedule/request.h"
#include "coordinator/schedule/token_constraint.h"

namespace tessera::coordinator {

struct RequestState;

// What every step of a decode reads stands first and together, with copies of what it needs of the
// request: of thousands of sequences nothing is in the nearer caches when its turn comes.
struct alignas(64) Sequence {
  enum class State : uint8_t {
    kHeld,     // waits until the request's first choice has computed the prompt
    kWaiting,  // in the queue
    kRunning,  // has a running slot
    kOver,     // finished; while steps in flight still write its blocks it keeps them
  };

  int64_t id = 0;  // in plans; also the order of arrival. Unique for the scheduler's life
  std::vector<int32_t> tokens;  // prompt, then emitted
  int computed = 0;
  int sent = 0;
  int64_t sampling_step = 0;    // the newest that samples its next tokens
  int64_t newest_step = 0;      // that held it
  int16_t in_flight = 0;        // steps
  int16_t pending_samples = 0;  // of those, the ones that sample its next tokens; at most 2
  int choice = 0;

  std::vector<int32_t> blocks;  // KvCacheManager's, as is reserved_blocks
  RequestState* request = nullptr;
  int64_t request_id = 0;  // this and the next four: the request's
  int prompt_tokens = 0;
  int max_tokens = 0;
  int num_logprobs = 0;
  int tenant = 0;           // TenantQueue's index
  int reserved_blocks = 0;  // running: blocks that the known tokens need and that are not taken yet
  State state = State::kHeld;  // SequenceTable's, once it waits, as is victim
  bool victim = false;         // running: planned no more, preempted when its last step is back
  bool stateless_sampling = false;  // the request's: HasStatelessSampling
  bool has_stop_ids = false;

  std::unique_ptr<TokenConstraint> constraint;  // null where stateless_sampling
  int prompt_logprobs_next = 0;  // prompt position of the next log probability to ask for; 0: none

  int known() const { return static_cast<int>(tokens.size()); }
  int emitted() const { return known() - prompt_tokens; }
  // Prompt position of the log probability to ask for next; 0: none.
  int next_prompt_logprob() const;
  // The next token to send is still being sampled.
  bool awaits_token() const { return sent == known(); }
  // One token to go and earlier ones behind it; everything else is (the rest of) a prefill.
  bool decoding() const { return sent > 0 && known() - sent <= 1; }
};

struct RequestState {
  ScheduledRequest request;  // its prompt_ids have moved into the first choice's tokens
  int prompt_tokens = 0;
  uint64_t salt = 0;  // keeps tenants' prefixes apart
  int tenant = 0;     // TenantQueue's index
  std::vector<Sequence> choices;
  int leader = 0;                 // the choice that computes the prompt for all
  bool prompt_known = false;      // its keys and values were computed once: nobody is held any more
  int unfinished = 0;             // choices
  int lingering = 0;              // choices that are over, and in a step in flight
  int running = 0;                // choices: SequenceTable's
  bool needs_last_token = false;  // each sample depends on the token before it, here
  bool admitted = false;          // has run at some time
  absl::Time added_at;
  // When it was first admitted, and what it was expected to take then: DeadlineAdmission's.
  absl::Time begun_at;
  double expected_prompt_micros = 0;  // until its first token
  double expected_token_micros = 0;   // for each token. 0: not known
  int emitted_elsewhere = 0;          // tokens of all choices that earlier groups computed
  bool suspect = false;               // it is one, and has had no token here
  bool proven = false;                // it has had a token here
  int cached_tokens = 0;              // of the prompt, when the leader was first admitted
  int prompt_logprobs_next =
      0;  // prompt position of the next one to be emitted; 0: none are wanted
  std::vector<int32_t> distinct_prompt_ids;      // with a repetition penalty
  absl::Time check_at = absl::InfiniteFuture();  // its entry in Deadlines

  bool has_prompt_logprobs_left() const {
    return prompt_logprobs_next > 0 && prompt_logprobs_next < prompt_tokens;
  }
  uint64_t seed(int choice) const {
    return request.seeds.empty() ? request.sampling.seed()
                                 : request.seeds[static_cast<size_t>(choice)];
  }
};

inline int Sequence::next_prompt_logprob() const {
  const bool asks = choice == request->leader && request->has_prompt_logprobs_left();
  return asks ? request->prompt_logprobs_next : 0;
}

// Asks the caches for what every step reads of a decode's sequence.
inline void Prefetch(const Sequence& sequence) {
  __builtin_prefetch(&sequence);
  __builtin_prefetch(&sequence.blocks);
}

// Asks the caches for where its next token will be written, or its last one stands.
inline void PrefetchTail(const Sequence& sequence) {
  __builtin_prefetch(sequence.tokens.data() + sequence.tokens.size());
}

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_SEQUENCE_H_
