// What a scheduler may use, and how it shares it out. Plain data, the same for the scheduler's
// whole life; SchedulerLimits' defaults are those of `tessera serve`.
//
//   Scheduler scheduler({.num_blocks = 4096, .max_steps_in_flight = stages});
#ifndef TESSERA_COORDINATOR_SCHEDULE_SCHEDULER_LIMITS_H_
#define TESSERA_COORDINATOR_SCHEDULE_SCHEDULER_LIMITS_H_

#include <map>
#include <string>

#include "coordinator/schedule/tenant_queue.h"

namespace tessera::coordinator {

struct SchedulerLimits {
  int block_tokens = 16;
  int num_blocks = 0;
  int max_tokens_per_step = 512;
  int max_sequences_per_step = 64;  // running at once
  int max_model_len = 0;            // prompt + generated; 0 = what the KV blocks hold
  int max_prefill_chunk = 512;      // tokens of one prompt per step
  int max_queue = 1024;             // waiting requests; one more is refused
  int max_steps_in_flight = 1;      // over disjoint sequences; the pipeline's stages
  // Async scheduling: decodes whose last token is still being sampled go out as soon as their step
  // is the oldest in flight (SequenceChunk.last_token_from_step), one step more than
  // max_steps_in_flight. Not while a running sequence needs its last token here first (a
  // constraint, a bad word of several tokens), nor while other tenants are active than the one that
  // runs: whoever comes then would wait for one step more.
  bool lookahead = true;
  bool prefix_caching = true;
  SchedulingPolicy policy = SchedulingPolicy::kFcfs;
  std::map<std::string, double> tenant_weights = {};  // tenants not named: 1
  // Prompt chunks beside decodes may make a step this many times as long as the decodes alone take
  // (learned: step_cost.h), or kOverloadStretch times that under overload: the budget that the
  // running streams' inter-token latency (ITL) leaves. A tenant in deficit may fill the whole token
  // budget. The others' prompts in steps without decodes get on in pieces of some 20 ms while
  // another tenant is active, who might have to wait for them; never less than makes what every
  // step costs a small part. 0: no bound of either kind but the token budget.
  double prefill_stretch = 2.0;
  int vocab_size = 0;  // Commit refuses token ids from here on; 0 = unchecked
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_SCHEDULER_LIMITS_H_
