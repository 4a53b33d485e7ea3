#include "coordinator/engine/admit.h"

#include <set>
#include <utility>

#include "absl/time/clock.h"
#include "coordinator/engine/bad_words.h"
#include "coordinator/engine/validate.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

// The output function of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): neighbours become strangers.
uint64_t Mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

std::vector<int32_t> StopIds(const CheckedSampling& sampling, const ServedModel& model) {
  std::set<int32_t> ids(sampling.stop_token_ids.begin(), sampling.stop_token_ids.end());
  if (!sampling.ignore_eos) {
    const auto& own = model.description.tokenizer().stop_ids();
    ids.insert(own.begin(), own.end());
  }
  return std::vector<int32_t>(ids.begin(), ids.end());
}

absl::StatusOr<CheckedSampling> Check(const PreparedRequest& request, const ServedModel& model,
                                      uint64_t default_seed) {
  const PromptLimits limits = LimitsOf(model.description, model.plan);
  TESSERA_RETURN_IF_ERROR(CheckPrompt(request.prompt_ids, "prompt", limits));
  const int prompt_tokens = static_cast<int>(request.prompt_ids.size());
  return CheckSampling(request.sampling,
                       {.seed = default_seed,
                        .prompt_tokens = prompt_tokens,
                        .context_tokens = limits.context_tokens,
                        .told_tokens = prompt_tokens - std::max(request.score_from, 0),
                        .vocab_size = limits.vocab_size,
                        .has_tokenizer = model.tokenizer != nullptr});
}

RequestOutput OutputOf(PreparedRequest& request, CheckedSampling& sampling,
                       const ServedModel& model) {
  return RequestOutput({.tokenizer = model.tokenizer.get(),
                        .stop = std::move(sampling.stop),
                        .text_before = request.text_before,
                        .choices = sampling.choices,
                        .min_tokens = sampling.min_tokens,
                        .num_logprobs = sampling.params.num_logprobs(),
                        .prompt_logprobs = sampling.prompt_logprobs,
                        .is_score = request.score_from >= 0,
                        .prompt_tokens = static_cast<int>(request.prompt_ids.size()),
                        .request_id = std::move(request.request_id)});
}

void SetTargets(const PreparedRequest& request, const CheckedSampling& sampling,
                ScheduledRequest& scheduled) {
  if (request.score_from >= 0) {
    scheduled.max_tokens = 0;
    scheduled.prompt_logprobs_from = request.score_from;
  } else if (sampling.prompt_logprobs >= 0 && request.prompt_ids.size() > 1) {
    scheduled.prompt_logprobs_from = 1;
  }
  scheduled.num_prompt_logprobs = std::max(sampling.prompt_logprobs, 0);
}

}  // namespace

std::vector<uint64_t> ChoiceSeeds(uint64_t seed, int count) {
  std::vector<uint64_t> seeds = {seed};
  for (int i = 1; i < count; ++i) {
    seeds.push_back(Mix(seed + static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15u));
  }
  return seeds;
}

absl::StatusOr<AdmittedRequest> Admit(PreparedRequest request,
                                      std::shared_ptr<const ServedModel> model,
                                      uint64_t default_seed) {
  TESSERA_ASSIGN_OR_RETURN(CheckedSampling sampling, Check(request, *model, default_seed));
  ScheduledRequest scheduled;
  scheduled.max_tokens = sampling.max_tokens;
  scheduled.min_tokens = sampling.min_tokens;
  scheduled.sampling = sampling.params;
  if (sampling.choices > 1) {
    scheduled.seeds = ChoiceSeeds(sampling.params.seed(), sampling.choices);
  }
  scheduled.stop_ids = StopIds(sampling, *model);
  if (request.sampling.bad_words_size() > 0) {
    TESSERA_ASSIGN_OR_RETURN(scheduled.bad_words,
                             BadWordIds(request.sampling.bad_words(), *model->tokenizer));
  }
  SetTargets(request, sampling, scheduled);
  scheduled.constraint = std::move(request.constraint);
  scheduled.tenant = std::move(request.tenant);
  scheduled.priority = request.priority;
  scheduled.deadline = request.deadline;
  std::string request_id = request.request_id;
  RequestOutput output = OutputOf(request, sampling, *model);
  scheduled.prompt_ids = std::move(request.prompt_ids);
  const bool has_arrival = request.arrival != absl::InfinitePast();
  const absl::Time arrival = has_arrival ? request.arrival : absl::Now();
  return AdmittedRequest{.scheduled = std::move(scheduled),
                         .record = {.model = std::move(model),
                                    .output = std::move(output),
                                    .times = RequestTimes(arrival, sampling.choices),
                                    .deadline = request.deadline,
                                    .request_id = std::move(request_id)}};
}

}  // namespace tessera::coordinator
