// Requests come and go. Planning is in plan.cc, seats and blocks in room.cc, results in commit.cc,
// deadlines in in_time.cc.
#include "coordinator/schedule/scheduler.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/deadlines.h"
#include "coordinator/schedule/draw_state.h"
#include "coordinator/schedule/plan_draft.h"
#include "coordinator/schedule/queue_full.h"
#include "coordinator/schedule/sequence.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

// A client that finds the queue full may try again after this long; queues drain in steps.
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

// Tokens of an output before any has been seen.
constexpr double kFirstGuess = 32;

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

// FNV-1a (Fowler, Noll, Vo): the same for a name in every process.
uint64_t StableHash(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

std::unique_ptr<LiveRequest> MakeLive(ScheduledRequest request, int tenant) {
  auto live = std::make_unique<LiveRequest>();
  live->prompt_tokens = static_cast<int>(request.prompt_ids.size());
  live->tenant = tenant;
  live->salt = StableHash(request.tenant);
  live->needs_last_token = NeedsLastToken(request);
  live->distinct_prompt_ids = PromptIdsForPenalty(request);
  if (request.targets_from > 0) live->targets_next = request.targets_from;
  live->choices.resize(std::max<size_t>(1, request.seeds.size()));
  live->unfinished = static_cast<int>(live->choices.size());
  for (size_t i = 0; i < live->choices.size(); ++i) {
    Sequence& sequence = live->choices[i];
    sequence.request = live.get();
    sequence.choice = static_cast<int>(i);
    sequence.request_id = request.id;
    sequence.prompt_tokens = live->prompt_tokens;
    sequence.max_tokens = request.max_tokens;
    sequence.num_logprobs = request.sampling.num_logprobs();
    sequence.tenant = tenant;
    sequence.draws_alike = DrawsAlike(request);
    sequence.has_stop_ids = !request.stop_ids.empty();
  }
  live->choices[0].tokens = std::move(request.prompt_ids);
  live->request = std::move(request);
  return live;
}

}  // namespace

Scheduler::Scheduler(const SchedulerLimits& limits)
    : limits_(Checked(limits)),
      max_len_(LongestSequence(limits)),
      pool_({.num_blocks = limits.num_blocks,
             .block_tokens = limits.block_tokens,
             .prefix_caching = limits.prefix_caching}),
      queue_({.policy = limits.policy, .weights = limits.tenant_weights}),
      deadlines_(std::make_unique<Deadlines>()),
      typical_output_(kFirstGuess) {}

Scheduler::~Scheduler() = default;

absl::Status Scheduler::CheckRequest(const ScheduledRequest& request) const {
  if (request.prompt_ids.empty()) {
    return wire::FieldError("prompt", "is empty; expected at least 1 token");
  }
  if (request.max_tokens < 0) {
    return wire::FieldError("max_tokens",
                            absl::StrCat("is ", request.max_tokens, "; expected at least 0"));
  }
  if (request.max_tokens == 0 && request.seeds.size() > 1) {
    return wire::FieldError(
        "n", absl::StrCat("is ", request.seeds.size(), "; expected 1 where nothing is generated"));
  }
  const int generated = request.max_tokens > 0 ? 1 : 0;
  const size_t longest_prompt = static_cast<size_t>(max_len_ - generated);
  if (request.prompt_ids.size() > longest_prompt) {
    const bool by_blocks = limits_.max_model_len == 0 || max_len_ < limits_.max_model_len;
    const std::string why =
        by_blocks ? absl::StrCat("all ", limits_.num_blocks, " KV blocks hold ", max_len_)
                  : absl::StrCat("max_model_len is ", max_len_);
    return wire::FieldError(
        "prompt",
        absl::StrCat("has ", request.prompt_ids.size(), " tokens; expected 1 .. ", longest_prompt,
                     " (", why, " tokens", generated > 0 ? ", one of them generated)" : ")"));
  }
  if (live_.count(request.id) > 0) {
    return absl::AlreadyExistsError(absl::StrCat("request ", request.id, " is live"));
  }
  const size_t waiting = live_.size() - static_cast<size_t>(running_requests_);
  if (waiting >= static_cast<size_t>(limits_.max_queue)) {
    return QueueFullError(static_cast<int64_t>(waiting), limits_.max_queue, kRetryAfter);
  }
  return absl::OkStatus();
}

absl::Status Scheduler::Add(ScheduledRequest request, absl::Time now) {
  TESSERA_RETURN_IF_ERROR(CheckRequest(request));
  TESSERA_RETURN_IF_ERROR(CheckTurn(request, now));
  const int tenant = queue_.TenantIndex(request.tenant);
  std::unique_ptr<LiveRequest> made = MakeLive(std::move(request), tenant);
  LiveRequest* const live = made.get();
  live->added_at = now;
  for (Sequence& choice : live->choices) choice.id = next_arrival_++;
  live_[live->request.id] = std::move(made);
  if (newest_tenants_[0].first != live->salt) newest_tenants_[1] = newest_tenants_[0];
  newest_tenants_[0] = {live->salt, now};
  Enqueue(&live->choices[0]);
  if (live->request.deadline != absl::InfiniteFuture()) deadlines_->Set(live, CheckAt(*live));
  return absl::OkStatus();
}

void Scheduler::Enqueue(Sequence* sequence) {
  const LiveRequest& live = *sequence->request;
  if (sequence->constraint == nullptr && live.request.constraint != nullptr) {
    sequence->constraint = live.request.constraint->Clone();
  }
  sequence->state = Sequence::State::kWaiting;
  waiting_[sequence->id] = sequence;
  waiting_tokens_ += sequence->known();
  queue_.Push({.arrival = sequence->id, .tenant = live.tenant, .priority = live.request.priority});
}

// The prompt is computed, so the other choices can share it; or it will never be.
void Scheduler::ReleaseHeld(LiveRequest* live) {
  live->prompt_known = true;
  const auto prompt = live->choices[0].tokens.begin();
  for (Sequence& choice : live->choices) {
    if (choice.state != Sequence::State::kHeld) continue;
    choice.tokens.assign(prompt, prompt + live->prompt_tokens);
    Enqueue(&choice);
  }
}

std::vector<Emission> Scheduler::TakeExpired() { return std::exchange(expired_, {}); }

bool Scheduler::Finish(int64_t request_id) {
  const auto found = live_.find(request_id);
  if (found == live_.end()) return false;
  FinishRequest(found->second.get());
  return true;
}

bool Scheduler::FinishChoice(int64_t request_id, int choice) {
  const auto found = live_.find(request_id);
  if (found == live_.end()) return false;
  std::vector<Sequence>& choices = found->second->choices;
  if (choice < 0 || static_cast<size_t>(choice) >= choices.size()) return false;
  Sequence* sequence = &choices[static_cast<size_t>(choice)];
  if (sequence->state == Sequence::State::kOver) return false;
  FinishSequence(sequence);
  return true;
}

void Scheduler::FinishRequest(LiveRequest* live) {
  live->prompt_known = true;  // nobody takes over
  for (Sequence& choice : live->choices) {
    if (choice.state != Sequence::State::kOver) FinishSequence(&choice);
  }
}

// The last choice takes the request with it: that is no longer live, and goes with ForgetOver.
void Scheduler::FinishSequence(Sequence* sequence) {
  LiveRequest* live = sequence->request;
  if (sequence->state == Sequence::State::kWaiting) {
    queue_.Erase(sequence->id);
    waiting_.erase(sequence->id);
    waiting_tokens_ -= sequence->known();
    if (favoured_ == sequence->id) favoured_.reset();
  } else if (sequence->state == Sequence::State::kRunning) {
    StopRunning(sequence);
  }
  sequence->state = Sequence::State::kOver;
  sequence->constraint = nullptr;
  if (sequence->in_flight == 0) {
    pool_.Release(&sequence->blocks);
  } else {
    ++live->lingering;
  }
  if (--live->unfinished == 0) {
    deadlines_->Remove(live);
    const auto entry = live_.find(live->request.id);
    over_.push_back(std::move(entry->second));
    live_.erase(entry);
  } else if (!live->prompt_known && sequence->choice == live->leader) {
    // Somebody else has to compute the prompt.
    while (live->choices[static_cast<size_t>(live->leader)].state != Sequence::State::kHeld) {
      ++live->leader;
    }
    Sequence* next = &live->choices[static_cast<size_t>(live->leader)];
    next->tokens.assign(live->choices[0].tokens.begin(),
                        live->choices[0].tokens.begin() + live->prompt_tokens);
    Enqueue(next);
  }
}

void Scheduler::ForgetOver() {
  const auto forgettable = [](const std::unique_ptr<LiveRequest>& live) {
    return live->lingering == 0;
  };
  over_.erase(std::remove_if(over_.begin(), over_.end(), forgettable), over_.end());
}

std::vector<Emission> Scheduler::AbortAll() {
  for (const std::unique_ptr<Step>& step : in_flight_) {
    for (Sequence* sequence : step->owners) {
      sequence->in_flight = 0;
      if (sequence->state != Sequence::State::kOver) continue;
      pool_.Release(&sequence->blocks);
      sequence->request->lingering = 0;
    }
  }
  in_flight_.clear();
  std::vector<std::pair<int64_t, int64_t>> ids;  // by arrival
  for (const auto& [id, live] : live_) ids.emplace_back(live->choices[0].id, id);
  std::sort(ids.begin(), ids.end());
  std::vector<Emission> aborted;
  for (const auto& [arrival, id] : ids) {
    aborted.push_back({.request_id = id, .finished = FinishCause::kAborted});
    Finish(id);
  }
  ForgetOver();
  pool_.ForgetContents();
  return aborted;
}

bool Scheduler::idle() const { return live_.empty(); }

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = totals_;
  stats.running = running_requests_;
  stats.waiting = static_cast<int>(live_.size()) - running_requests_;
  stats.blocks_total = pool_.total();
  stats.blocks_free = pool_.free_count();
  stats.blocks_cached = pool_.cached_count();
  stats.out_of_blocks = out_of_blocks_;
  return stats;
}

}  // namespace tessera::coordinator
