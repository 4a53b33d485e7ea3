// Requests come and go, and steps are planned. What the group answers is in commit.cc.
#include "coordinator/schedule/scheduler.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/active_tenants.h"
#include "coordinator/schedule/batch_builder.h"
#include "coordinator/schedule/deadline_admission.h"
#include "coordinator/schedule/deadlines.h"
#include "coordinator/schedule/kv_cache_manager.h"
#include "coordinator/schedule/logits_state.h"
#include "coordinator/schedule/overload_estimator.h"
#include "coordinator/schedule/preemption_policy.h"
#include "coordinator/schedule/queue_full.h"
#include "coordinator/schedule/scheduling_policy.h"
#include "coordinator/schedule/sequence.h"
#include "coordinator/schedule/sequence_table.h"
#include "coordinator/schedule/step.h"
#include "coordinator/schedule/step_cost.h"
#include "coordinator/schedule/step_times.h"
#include "proto/base/status_macros.h"
#include "proto/wire/status_builders.h"

namespace tessera::coordinator {
namespace {

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

// FNV-1a (Fowler, Noll, Vo): equal for a name in every process.
uint64_t StableHash(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

// The first choice that goes on computes the prompt for all; it and the others have tokens of their
// own behind it.
void TakeSoFar(const ScheduledRequest& request, RequestState* state) {
  if (request.so_far.empty()) return;
  const std::vector<int32_t> prompt = state->choices[0].tokens;
  for (size_t i = 0; i < state->choices.size(); ++i) {
    const ChoiceSoFar& so_far = request.so_far[i];
    Sequence& sequence = state->choices[i];
    sequence.tokens = prompt;
    sequence.tokens.insert(sequence.tokens.end(), so_far.output_ids.begin(),
                           so_far.output_ids.end());
    state->emitted_elsewhere += sequence.emitted();
    if (!so_far.over) continue;
    sequence.state = Sequence::State::kOver;
    --state->unfinished;
  }
  const auto goes_on = std::find_if(request.so_far.begin(), request.so_far.end(),
                                    [](const ChoiceSoFar& choice) { return !choice.over; });
  state->leader = static_cast<int>(goes_on - request.so_far.begin());
  state->suspect = request.is_suspect;
}

bool IsComputing(const RequestState& request) {
  return std::any_of(request.choices.begin(), request.choices.end(),
                     [](const Sequence& choice) { return choice.in_flight > 0; });
}

// As it was handed in, but for what it has got to.
ScheduledRequest WhereItIs(RequestState* state) {
  ScheduledRequest request = std::move(state->request);
  request.so_far.assign(state->choices.size(), {});
  for (size_t i = 0; i < state->choices.size(); ++i) {
    const Sequence& choice = state->choices[i];
    ChoiceSoFar& so_far = request.so_far[i];
    so_far.over = choice.state == Sequence::State::kOver;
    if (choice.emitted() <= 0) continue;
    so_far.output_ids.assign(choice.tokens.begin() + state->prompt_tokens, choice.tokens.end());
  }
  if (state->proven) {
    request.is_suspect = false;
    request.losses = 0;
  }
  request.prompt_logprobs_from =
      state->has_prompt_logprobs_left() ? state->prompt_logprobs_next : -1;
  const auto prompt = state->choices[0].tokens.begin();
  request.prompt_ids.assign(prompt, prompt + state->prompt_tokens);
  return request;
}

std::unique_ptr<RequestState> MakeState(ScheduledRequest request, int tenant) {
  auto state = std::make_unique<RequestState>();
  state->prompt_tokens = static_cast<int>(request.prompt_ids.size());
  state->tenant = tenant;
  state->salt = StableHash(request.tenant);
  state->needs_last_token = NeedsLastToken(request);
  state->distinct_prompt_ids = PromptIdsForPenalty(request);
  if (request.prompt_logprobs_from > 0) {
    state->prompt_logprobs_next = request.prompt_logprobs_from;
  }
  state->choices.resize(std::max<size_t>(1, request.seeds.size()));
  state->unfinished = static_cast<int>(state->choices.size());
  for (size_t i = 0; i < state->choices.size(); ++i) {
    Sequence& sequence = state->choices[i];
    sequence.request = state.get();
    sequence.choice = static_cast<int>(i);
    sequence.request_id = request.id;
    sequence.prompt_tokens = state->prompt_tokens;
    sequence.max_tokens = request.max_tokens;
    sequence.num_logprobs = request.sampling.num_logprobs();
    sequence.tenant = tenant;
    sequence.stateless_sampling = HasStatelessSampling(request);
    sequence.has_stop_ids = !request.stop_ids.empty();
  }
  state->choices[0].tokens = std::move(request.prompt_ids);
  TakeSoFar(request, state.get());
  state->request = std::move(request);
  return state;
}

}  // namespace

Scheduler::Scheduler(const SchedulerLimits& limits)
    : limits_(Checked(limits)),
      max_len_(LongestSequence(limits)),
      cache_(std::make_unique<KvCacheManager>(limits)),
      table_(std::make_unique<SequenceTable>(
          TenantQueueOptions{.policy = limits.policy, .weights = limits.tenant_weights},
          limits.max_sequences_per_step)),
      cost_(std::make_unique<StepCost>()),
      step_times_(std::make_unique<StepTimes>(limits.max_steps_in_flight)),
      estimator_(std::make_unique<OverloadEstimator>(limits, cost_.get())),
      admission_(std::make_unique<DeadlineAdmission>(limits, cache_.get(), estimator_.get())),
      deadlines_(std::make_unique<Deadlines>()),
      preemption_(std::make_unique<PreemptionPolicy>(cache_.get(), table_.get())),
      active_tenants_(std::make_unique<ActiveTenants>()),
      builder_(std::make_unique<BatchBuilder>(limits_, max_len_,
                                              BatchBuilder::Parts{.cache = cache_.get(),
                                                                  .table = table_.get(),
                                                                  .preemption = preemption_.get(),
                                                                  .admission = admission_.get(),
                                                                  .estimator = estimator_.get(),
                                                                  .cost = cost_.get(),
                                                                  .tenants = active_tenants_.get()},
                                              [this](RequestState* late) { DropLate(late); })) {}

Scheduler::~Scheduler() = default;

ServingLoad Scheduler::Load() const { return {table_->running(), table_->waiting()}; }

// ---- requests come

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
  size_t emitted = 0;
  for (const ChoiceSoFar& choice : request.so_far) {
    emitted = std::max(emitted, choice.over ? 0 : choice.output_ids.size());
  }
  if (emitted > 0 && request.prompt_ids.size() + emitted > longest_prompt) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the request has grown to ", request.prompt_ids.size() + emitted,
        " tokens, and the worker group that was to go on with it holds ", longest_prompt));
  }
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
  const size_t waiting = live_.size() - static_cast<size_t>(table_->running_requests());
  if (request.so_far.empty() && waiting >= static_cast<size_t>(limits_.max_queue)) {
    return QueueFullError(static_cast<int64_t>(waiting), limits_.max_queue,
                          policy::kRetryAfterFullQueue);
  }
  return absl::OkStatus();
}

absl::Status Scheduler::Add(ScheduledRequest request, absl::Time now) {
  TESSERA_RETURN_IF_ERROR(CheckRequest(request));
  const int tenant = table_->tenants().TenantIndex(request.tenant);
  const int ahead = table_->tenants().waiting(tenant);
  const bool is_replay = !request.so_far.empty();
  if (!is_replay) TESSERA_RETURN_IF_ERROR(admission_->CheckTurn(request.deadline, ahead, now));
  std::unique_ptr<RequestState> made = MakeState(std::move(request), tenant);
  RequestState* const state = made.get();
  state->added_at = now;
  for (Sequence& choice : state->choices) {
    choice.id = is_replay ? next_replay_++ : next_arrival_++;
  }
  if (state->emitted_elsewhere > 0) {  // its client is reading: nothing is asked again
    state->admitted = true;
    state->begun_at = now;
  }
  suspects_ += state->suspect;
  live_[state->request.id] = std::move(made);
  active_tenants_->Add(state->salt, now);
  Enqueue(&state->choices[static_cast<size_t>(state->leader)]);
  if (state->request.deadline != absl::InfiniteFuture()) {
    deadlines_->Set(state, admission_->CheckAt(*state, Load()));
  }
  return absl::OkStatus();
}

void Scheduler::Enqueue(Sequence* sequence) {
  const std::shared_ptr<const TokenConstraint>& constraint = sequence->request->request.constraint;
  if (constraint != nullptr) {
    sequence->constraint = constraint->Clone();
    for (int i = sequence->prompt_tokens; i < sequence->known(); ++i) {
      sequence->constraint->Accept(sequence->tokens[static_cast<size_t>(i)]);
    }
  }
  table_->Enqueue(sequence);
}

// The prompt is computed, so the other choices can fork it; or it will never be.
void Scheduler::EnqueueHeld(RequestState* request) {
  request->prompt_known = true;
  const auto prompt = request->choices[0].tokens.begin();
  for (Sequence& choice : request->choices) {
    if (choice.state != Sequence::State::kHeld) continue;
    if (choice.tokens.empty()) choice.tokens.assign(prompt, prompt + request->prompt_tokens);
    Enqueue(&choice);
  }
}

// ---- steps are planned

std::optional<v1::StepPlan> Scheduler::Schedule(absl::Time now) {
  std::optional<v1::StepPlan> plan(std::in_place);
  if (!Schedule(now, &*plan)) plan.reset();
  return plan;
}

bool Scheduler::Schedule(absl::Time now, v1::StepPlan* plan) {
  admission_->LearnEnded(Load(), now);
  DropExpired(now);
  ForgetFinished();
  const bool other_tenant_active = active_tenants_->OtherThanRunning(table_->running(), now);
  admission_->UpdateOverload(other_tenant_active, now);
  const bool async = limits_.lookahead && !table_->AnyNeedsLastToken() && !other_tenant_active;
  if (in_flight_.size() >= static_cast<size_t>(limits_.max_steps_in_flight) + (async ? 1 : 0)) {
    return false;
  }
  std::unique_ptr<Step> step = NewStep();
  step->id = next_step_id_;
  step->sent_at = now;
  EarlierPlan earlier = {.plan = plan, .step_id = plan == newest_plan_ ? plan->step_id() : 0};
  plan->clear_copies();
  preemption_->MakeRoomForWaiting();
  builder_->Build({.now = now,
                   .async = async,
                   .oldest_step = in_flight_.empty() ? 0 : in_flight_.front()->id,
                   .measured = totals_.compute_micros > 0,
                   .suspects = suspects_ > 0},
                  step.get(), &earlier);
  const int chunks = static_cast<int>(step->owners.size());
  if (chunks == 0) {
    spare_steps_.push_back(std::move(step));
    // Decodes may have stepped aside for somebody who turned out to be too late. Not twice in a
    // row.
    return builder_->stepped_aside() && Schedule(now, plan);
  }
  plan->set_step_id(next_step_id_++);
  newest_plan_ = plan;
  while (plan->chunks_size() > chunks) plan->mutable_chunks()->RemoveLast();  // keeps its memory
  in_flight_.push_back(std::move(step));
  return true;
}

std::unique_ptr<Step> Scheduler::NewStep() {
  if (spare_steps_.empty()) return std::make_unique<Step>();
  std::unique_ptr<Step> step = std::move(spare_steps_.back());
  spare_steps_.pop_back();
  return step;
}

// ---- requests go

void Scheduler::DropExpired(absl::Time now) {
  while (RequestState* due = deadlines_->PopDue(now)) {
    // Less to compute than was thought, or it has started since.
    if (!admission_->IsTooLate(*due, Load(), now)) {
      deadlines_->Set(due, admission_->CheckAt(*due, Load()));
      continue;
    }
    if (!due->admitted) admission_->WasTooLate(now);
    admission_->LearnDropped(*due, now);
    DropLate(due);
  }
}

void Scheduler::DropLate(RequestState* request) {
  expired_.push_back({.request_id = request->request.id, .finished = FinishCause::kDeadline});
  FinishRequest(request);
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

void Scheduler::FinishRequest(RequestState* request) {
  request->prompt_known = true;  // nobody takes over
  for (Sequence& choice : request->choices) {
    if (choice.state != Sequence::State::kOver) FinishSequence(&choice);
  }
}

// The last choice takes the request with it: that is no longer live, and goes with ForgetFinished.
void Scheduler::FinishSequence(Sequence* sequence) {
  RequestState* request = sequence->request;
  table_->Drop(sequence);
  cache_->Unreserve(sequence);
  preemption_->StopsWaiting(*sequence);
  sequence->state = Sequence::State::kOver;
  sequence->constraint = nullptr;
  if (sequence->in_flight == 0) {
    cache_->Release(sequence);
  } else {
    ++request->lingering;
  }
  if (--request->unfinished == 0) {
    deadlines_->Remove(request);
    if (request->suspect) Acquit(request);
    const auto entry = live_.find(request->request.id);
    finished_.push_back(std::move(entry->second));
    live_.erase(entry);
  } else if (!request->prompt_known && sequence->choice == request->leader) {
    // Somebody else has to compute the prompt.
    while (request->choices[static_cast<size_t>(request->leader)].state != Sequence::State::kHeld) {
      ++request->leader;
    }
    Sequence* next = &request->choices[static_cast<size_t>(request->leader)];
    const auto prompt = request->choices[0].tokens.begin();
    if (next->tokens.empty()) next->tokens.assign(prompt, prompt + request->prompt_tokens);
    Enqueue(next);
  }
}

void Scheduler::ForgetFinished() {
  const auto forgettable = [](const std::unique_ptr<RequestState>& request) {
    return request->lingering == 0;
  };
  finished_.erase(std::remove_if(finished_.begin(), finished_.end(), forgettable), finished_.end());
}

void Scheduler::Acquit(RequestState* suspect) {
  suspect->suspect = false;
  --suspects_;
}

std::vector<ScheduledRequest> Scheduler::TakeUnfinished(bool may_be_theirs) {
  std::vector<RequestState*> suspects;
  for (const auto& [id, request] : live_) {
    if (may_be_theirs && !request->proven && IsComputing(*request)) {
      suspects.push_back(request.get());
    }
  }
  for (RequestState* suspect : suspects) {
    suspect->request.is_suspect = true;
    suspect->request.losses += suspects.size() == 1 ? 1 : 0;
  }
  std::vector<std::pair<int64_t, int64_t>> ids;  // by arrival
  for (const auto& [id, request] : live_) ids.emplace_back(request->choices[0].id, id);
  std::sort(ids.begin(), ids.end());
  std::vector<ScheduledRequest> unfinished;
  unfinished.reserve(ids.size());
  for (const auto& [arrival, id] : ids) unfinished.push_back(WhereItIs(live_[id].get()));
  for (const std::unique_ptr<Step>& step : in_flight_) {
    for (Sequence* sequence : step->owners) {
      sequence->in_flight = 0;
      if (sequence->state != Sequence::State::kOver) continue;
      cache_->Release(sequence);
      sequence->request->lingering = 0;
    }
  }
  in_flight_.clear();
  for (const auto& [arrival, id] : ids) Finish(id);
  ForgetFinished();
  cache_->ForgetContents();
  return unfinished;
}

bool Scheduler::idle() const { return live_.empty(); }

absl::Duration Scheduler::expected_step() const {
  if (in_flight_.empty() || !cost_->known()) return absl::ZeroDuration();
  return absl::Microseconds(cost_->PredictMicros(in_flight_.back()->shape));
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = totals_;
  stats.running = table_->running_requests();
  stats.waiting = static_cast<int>(live_.size()) - table_->running_requests();
  stats.preemptions = preemption_->preemptions();
  stats.prefix_queries = cache_->prefix_queries();
  stats.prefix_hits = cache_->prefix_hits();
  stats.blocks_total = cache_->total_blocks();
  stats.blocks_free = cache_->free_blocks();
  stats.blocks_cached = cache_->cached_blocks();
  stats.out_of_blocks = builder_->out_of_blocks();
  stats.waiting_tokens = table_->waiting_tokens();
  if (!cost_->known()) return stats;
  stats.step_micros = cost_->PredictMicros({.decodes = 1});
  stats.decode_micros = cost_->PredictMicros({.decodes = 2}) - stats.step_micros;
  stats.prompt_token_micros = cost_->PromptMicros(1, 0);
  return stats;
}

}  // namespace tessera::coordinator
