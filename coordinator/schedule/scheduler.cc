#include "coordinator/schedule/scheduler.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/result_check.h"
#include "proto/wire/status_builders.h"
#include "proto/wire/status_macros.h"

namespace tessera::coordinator {
namespace {

// A client that finds the queue full may try again after this long; queues drain in steps.
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

int AtLeast(const char* name, int minimum, int value) {
  if (value >= minimum) return value;
  std::fprintf(stderr, "SchedulerLimits.%s is %d; expected at least %d\n", name, value, minimum);
  std::abort();
}

SchedulerLimits Checked(const SchedulerLimits& limits) {
  AtLeast("block_tokens", 1, limits.block_tokens);
  AtLeast("num_blocks", 1, limits.num_blocks);
  AtLeast("max_tokens_per_step", 1, limits.max_tokens_per_step);
  AtLeast("max_sequences_per_step", 1, limits.max_sequences_per_step);
  AtLeast("max_model_len", 0, limits.max_model_len);
  AtLeast("max_prefill_chunk", 1, limits.max_prefill_chunk);
  AtLeast("max_queue", 1, limits.max_queue);
  AtLeast("max_steps_in_flight", 1, limits.max_steps_in_flight);
  AtLeast("vocab_size", 0, limits.vocab_size);
  return limits;
}

int LongestSequence(const SchedulerLimits& limits) {
  const int64_t held = int64_t{limits.num_blocks} * limits.block_tokens;
  const int64_t wanted = limits.max_model_len > 0 ? limits.max_model_len : held;
  return static_cast<int>(std::min<int64_t>({held, wanted, INT32_MAX}));
}

}  // namespace

struct Scheduler::Sequence {
  ScheduledRequest request;
  int64_t arrival = 0;
  std::vector<int32_t> tokens;  // prompt, then emitted
  int computed = 0;             // tokens whose keys and values are in the cache
  std::vector<int32_t> blocks;
  bool in_flight = false;  // a step (in flight, or being planned) computes some of it
  bool finished = false;   // while in flight: drop the result, then free the blocks

  int known() const { return static_cast<int>(tokens.size()); }
  int emitted() const { return known() - static_cast<int>(request.prompt_ids.size()); }
  // One token to go and earlier ones behind it; everything else is (the rest of) a prefill.
  bool decoding() const { return computed > 0 && known() - computed == 1; }
};

struct Scheduler::Step {
  v1::StepPlan plan;
  std::vector<SequencePtr> sequences;  // index = chunk
  int budget = 0;                      // tokens left
  bool starved = false;                // somebody found no block: admit nobody
};

Scheduler::Scheduler(const SchedulerLimits& limits)
    : limits_(Checked(limits)), max_len_(LongestSequence(limits)), pool_(limits.num_blocks) {}

Scheduler::~Scheduler() = default;

int Scheduler::BlocksFor(int tokens) const {
  return (tokens + limits_.block_tokens - 1) / limits_.block_tokens;
}

absl::Status Scheduler::Add(ScheduledRequest request, absl::Time /*now*/) {
  if (request.prompt_ids.empty()) {
    return wire::FieldError("prompt", "is empty; expected at least 1 token");
  }
  if (request.max_tokens < 1) {
    return wire::FieldError("max_tokens",
                            absl::StrCat("is ", request.max_tokens, "; expected at least 1"));
  }
  const size_t longest_prompt = static_cast<size_t>(max_len_) - 1;
  if (request.prompt_ids.size() > longest_prompt) {
    const bool by_blocks = limits_.max_model_len == 0 || max_len_ < limits_.max_model_len;
    const std::string why =
        by_blocks ? absl::StrCat("all ", limits_.num_blocks, " KV blocks hold ", max_len_)
                  : absl::StrCat("max_model_len is ", max_len_);
    return wire::FieldError(
        "prompt", absl::StrCat("has ", request.prompt_ids.size(), " tokens; expected 1 .. ",
                               longest_prompt, " (", why, " tokens, one of them generated)"));
  }
  if (live_.count(request.id) > 0) {
    return absl::AlreadyExistsError(absl::StrCat("request ", request.id, " is live"));
  }
  if (waiting_.size() >= static_cast<size_t>(limits_.max_queue)) {
    return wire::OverloadedError(
        absl::StrCat("the queue is full: ", waiting_.size(), " requests are waiting"), kRetryAfter);
  }
  auto sequence = std::make_shared<Sequence>();
  sequence->arrival = next_arrival_++;
  sequence->tokens = request.prompt_ids;
  sequence->request = std::move(request);
  live_[sequence->request.id] = sequence;
  waiting_[sequence->arrival] = std::move(sequence);
  return absl::OkStatus();
}

std::optional<v1::StepPlan> Scheduler::Schedule(absl::Time now) {
  DropExpired(now);
  if (in_flight_.size() >= static_cast<size_t>(limits_.max_steps_in_flight)) return std::nullopt;
  auto step = std::make_unique<Step>();
  step->budget = limits_.max_tokens_per_step;
  PlanDecodes(step.get());
  PlanPrefills(step.get());
  AdmitAndPlan(step.get());
  if (step->sequences.empty()) return std::nullopt;
  step->plan.set_step_id(next_step_id_++);
  v1::StepPlan plan = step->plan;
  in_flight_[plan.step_id()] = std::move(step);
  return plan;
}

void Scheduler::DropExpired(absl::Time now) {
  std::vector<SequencePtr> expired;  // references of its own: Retire changes the maps
  for (const auto* queue : {&running_, &waiting_}) {
    for (const auto& [arrival, sequence] : *queue) {
      if (now >= sequence->request.deadline) expired.push_back(sequence);
    }
  }
  for (const SequencePtr& sequence : expired) {
    expired_.push_back({sequence->request.id, std::nullopt, FinishCause::kDeadline});
    Retire(sequence);
  }
}

std::vector<Emission> Scheduler::TakeExpired() { return std::exchange(expired_, {}); }

void Scheduler::PlanDecodes(Step* step) {
  std::vector<SequencePtr> ready;
  for (const auto& [arrival, sequence] : running_) {
    if (!sequence->in_flight && sequence->decoding()) ready.push_back(sequence);
  }
  // An even share for every step that may be in flight, or the first would take all of them and
  // the other stages would idle.
  const size_t steps = static_cast<size_t>(limits_.max_steps_in_flight);
  size_t share = (running_.size() + steps - 1) / steps;
  for (const SequencePtr& sequence : ready) {
    if (share == 0) return;
    const bool preempted_meanwhile = running_.count(sequence->arrival) == 0;
    if (!preempted_meanwhile && PlanChunk(sequence, step)) --share;
  }
}

void Scheduler::PlanPrefills(Step* step) {
  std::vector<SequencePtr> ready;
  for (const auto& [arrival, sequence] : running_) {
    if (!sequence->in_flight && !sequence->decoding()) ready.push_back(sequence);
  }
  for (const SequencePtr& sequence : ready) {
    if (running_.count(sequence->arrival) > 0) PlanChunk(sequence, step);
  }
}

// First come, first served: the first one that does not fit holds up the rest.
void Scheduler::AdmitAndPlan(Step* step) {
  out_of_blocks_ = step->starved;
  while (!waiting_.empty() && step->budget > 0 && !step->starved &&
         running_.size() < static_cast<size_t>(limits_.max_sequences_per_step)) {
    const SequencePtr sequence = waiting_.begin()->second;
    // Room for all it is known to need, so that a prompt is not admitted only to be preempted.
    out_of_blocks_ = BlocksFor(sequence->known()) > pool_.free_count() - UnallocatedPromise();
    if (out_of_blocks_) return;
    waiting_.erase(waiting_.begin());
    running_[sequence->arrival] = sequence;
    PlanChunk(sequence, step);
  }
}

// Blocks that running prefills were admitted for and have not taken yet.
int Scheduler::UnallocatedPromise() const {
  int promised = 0;
  for (const auto& [arrival, sequence] : running_) {
    promised +=
        std::max(0, BlocksFor(sequence->known()) - static_cast<int>(sequence->blocks.size()));
  }
  return promised;
}

// The next tokens of `sequence`, as many as budget, chunk limit and blocks allow. False when none.
bool Scheduler::PlanChunk(const SequencePtr& sequence, Step* step) {
  int count =
      std::min({sequence->known() - sequence->computed, limits_.max_prefill_chunk, step->budget});
  if (count == 0) return false;
  if (!Reserve(*sequence, sequence->computed + count, &sequence->blocks)) {
    step->starved = true;
    // Whatever is free still helps a prompt along.
    const int blocks = static_cast<int>(sequence->blocks.size()) + pool_.free_count();
    count = std::min(count, blocks * limits_.block_tokens - sequence->computed);
    if (count <= 0 || !pool_.Grow(BlocksFor(sequence->computed + count), &sequence->blocks)) {
      return false;
    }
  }
  const int end = sequence->computed + count;
  v1::SequenceChunk* chunk = step->plan.add_chunks();
  chunk->set_sequence_id(sequence->request.id);
  chunk->mutable_token_ids()->Add(sequence->tokens.begin() + sequence->computed,
                                  sequence->tokens.begin() + end);
  chunk->set_start_position(sequence->computed);
  chunk->mutable_block_table()->Add(sequence->blocks.begin(),
                                    sequence->blocks.begin() + BlocksFor(end));
  if (end == sequence->known()) *chunk->mutable_sampling() = sequence->request.sampling;
  chunk->set_return_logits(sequence->request.return_logits);
  sequence->in_flight = true;
  step->sequences.push_back(sequence);
  step->budget -= count;
  return true;
}

// Blocks for the first `tokens` tokens, preempting younger sequences while there are too few.
bool Scheduler::Reserve(const Sequence& wanting, int tokens, std::vector<int32_t>* table) {
  while (!pool_.Grow(BlocksFor(tokens), table)) {
    Sequence* victim = Victim(wanting);
    if (victim == nullptr) return false;
    Preempt(victim);
  }
  return true;
}

// The youngest sequence that holds blocks and that no step computes, if younger than `wanting`.
// Never an older one: the oldest always gets on, so all of them do in turn.
Scheduler::Sequence* Scheduler::Victim(const Sequence& wanting) const {
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    Sequence* candidate = it->second.get();
    if (candidate->arrival <= wanting.arrival) return nullptr;
    if (!candidate->in_flight && !candidate->blocks.empty()) return candidate;
  }
  return nullptr;
}

void Scheduler::Preempt(Sequence* sequence) {
  ++preemptions_;
  pool_.Release(&sequence->blocks);
  sequence->computed = 0;
  auto node = running_.extract(sequence->arrival);
  waiting_.insert(std::move(node));
}

absl::StatusOr<std::vector<Emission>> Scheduler::Commit(const v1::StepResult& result) {
  const auto found = in_flight_.find(result.step_id());
  if (found == in_flight_.end()) {
    return absl::InternalError(
        absl::StrCat("result of step ", result.step_id(), ", which is not in flight"));
  }
  TESSERA_RETURN_IF_ERROR(CheckStepResult(found->second->plan, result, limits_.vocab_size));
  const std::unique_ptr<Step> step = std::move(found->second);
  in_flight_.erase(found);
  std::vector<Emission> emissions;
  int sampled = 0;
  for (int i = 0; i < step->plan.chunks_size(); ++i) {
    const v1::SequenceChunk& chunk = step->plan.chunks(i);
    const SequencePtr& sequence = step->sequences[static_cast<size_t>(i)];
    const v1::SampledToken* token = chunk.has_sampling() ? &result.tokens(sampled++) : nullptr;
    sequence->in_flight = false;
    if (sequence->finished) {
      pool_.Release(&sequence->blocks);
      continue;
    }
    sequence->computed += chunk.token_ids_size();
    if (token != nullptr) emissions.push_back(Append(sequence, *token));
  }
  return emissions;
}

Emission Scheduler::Append(const SequencePtr& sequence, const v1::SampledToken& token) {
  const ScheduledRequest& request = sequence->request;
  sequence->tokens.push_back(token.token_id());
  Emission emission{request.id, token, FinishCause::kNone};
  const auto& stop_ids = request.stop_ids;
  if (std::find(stop_ids.begin(), stop_ids.end(), token.token_id()) != stop_ids.end()) {
    emission.finished = FinishCause::kStopToken;
  } else if (sequence->emitted() >= request.max_tokens || sequence->known() >= max_len_) {
    emission.finished = FinishCause::kLength;
  }
  if (emission.finished != FinishCause::kNone) Retire(sequence);
  return emission;
}

bool Scheduler::Finish(int64_t request_id) {
  const auto found = live_.find(request_id);
  if (found == live_.end()) return false;
  Retire(SequencePtr(found->second));
  return true;
}

// `sequence` must not be the reference that one of the maps holds: they let go of it here.
void Scheduler::Retire(const SequencePtr& sequence) {
  waiting_.erase(sequence->arrival);
  running_.erase(sequence->arrival);
  sequence->finished = true;
  if (!sequence->in_flight) pool_.Release(&sequence->blocks);
  live_.erase(sequence->request.id);
}

std::vector<Emission> Scheduler::AbortAll() {
  for (auto& [id, step] : in_flight_) {
    for (const SequencePtr& sequence : step->sequences) {
      sequence->in_flight = false;
      pool_.Release(&sequence->blocks);
    }
  }
  in_flight_.clear();
  std::vector<Emission> aborted;
  for (auto* queue : {&running_, &waiting_}) {
    while (!queue->empty()) {
      const SequencePtr sequence = queue->begin()->second;
      aborted.push_back({sequence->request.id, std::nullopt, FinishCause::kAborted});
      Retire(sequence);
    }
  }
  return aborted;
}

bool Scheduler::idle() const { return live_.empty(); }

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats;
  stats.running = static_cast<int>(running_.size());
  stats.waiting = static_cast<int>(waiting_.size());
  stats.blocks_total = pool_.total();
  stats.blocks_free = pool_.free_count();
  stats.preemptions = preemptions_;
  stats.out_of_blocks = out_of_blocks_;
  return stats;
}

}  // namespace tessera::coordinator
