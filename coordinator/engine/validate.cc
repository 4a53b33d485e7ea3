#include "coordinator/engine/validate.h"

#include <algorithm>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/model/sampling_fields.h"
#include "proto/wire/status_builders.h"

namespace tessera::coordinator {
namespace {

using wire::FieldError;

using model::SamplingField;

std::string NameOf(const SamplingField& field) { return absl::StrCat("sampling.", field.name); }

absl::Status CheckNumber(const SamplingField& field, absl::string_view name, double value) {
  if (model::Allows(field, value)) return absl::OkStatus();
  return FieldError(name, model::WhyRefused(field, value));
}

absl::Status CheckCount(int count, absl::string_view field, int most) {
  if (count <= most) return absl::OkStatus();
  return FieldError(field, absl::StrCat("has ", count, " entries; expected at most ", most));
}

using Words = google::protobuf::RepeatedPtrField<std::string>;

// Only a model with a tokenizer can look for words.
absl::Status CheckWords(const SamplingField& field, const Words& words, bool has_tokenizer) {
  const std::string name = NameOf(field);
  TESSERA_RETURN_IF_ERROR(CheckCount(words.size(), name, field.most));
  if (!words.empty() && !has_tokenizer) {
    return FieldError(name, "is set; expected none: this model has no tokenizer");
  }
  for (int i = 0; i < words.size(); ++i) {
    const size_t bytes = words[i].size();
    if (bytes >= 1 && bytes <= static_cast<size_t>(field.most_bytes)) continue;
    return FieldError(absl::StrCat(name, "[", i, "]"),
                      absl::StrCat("has ", bytes, " bytes; expected 1 .. ", field.most_bytes));
  }
  return absl::OkStatus();
}

absl::Status CheckLogitBias(const v1::SamplingOptions& options, int vocab_size) {
  const std::string name = NameOf(model::kLogitBias);
  const int count = static_cast<int>(options.logit_bias().size());
  TESSERA_RETURN_IF_ERROR(CheckCount(count, name, model::kLogitBias.most));
  for (const auto& [id, bias] : options.logit_bias()) {
    const std::string field = absl::StrCat(name, "[", id, "]");
    if (id < 0 || id >= vocab_size) {
      return FieldError(field, absl::StrCat("names no token; expected ids 0 .. ", vocab_size - 1));
    }
    TESSERA_RETURN_IF_ERROR(CheckNumber(model::kLogitBias, field, bias));
  }
  return absl::OkStatus();
}

// A grammar decides alone which token may come next: what could leave it none is refused.
absl::Status CheckBesideStructured(const v1::SamplingOptions& options, bool has_tokenizer) {
  if (!options.has_structured()) return absl::OkStatus();
  constexpr absl::string_view kWhy = "cannot be combined with structured output";
  if (!has_tokenizer) {
    return FieldError("sampling.structured", "is set; expected none: this model has no tokenizer");
  }
  if (options.ignore_eos()) return FieldError("sampling.ignore_eos", kWhy);
  if (options.min_tokens() > 0) return FieldError("sampling.min_tokens", kWhy);
  if (options.bad_words_size() > 0) return FieldError("sampling.bad_words", kWhy);
  return absl::OkStatus();
}

// What was left out has its default, which is in range.
absl::Status CheckNumbers(const v1::SamplingOptions& options) {
  for (const SamplingField& field : model::kSamplingFields) {
    if (const std::optional<double> value = model::NumberIn(options, field)) {
      TESSERA_RETURN_IF_ERROR(CheckNumber(field, NameOf(field), *value));
    }
  }
  if (!options.has_max_tokens() || options.min_tokens() <= options.max_tokens()) {
    return absl::OkStatus();
  }
  return FieldError(NameOf(model::kMinTokens),
                    absl::StrCat("is ", options.min_tokens(), "; expected 0 .. ",
                                 options.max_tokens()));
}

absl::Status CheckPromptLogprobs(const v1::SamplingOptions& options, int told_tokens) {
  if (!options.has_prompt_logprobs()) return absl::OkStatus();
  const int64_t entries = int64_t{told_tokens} * (1 + options.prompt_logprobs());
  if (entries <= kMaxPromptLogprobs) return absl::OkStatus();
  return FieldError("sampling.prompt_logprobs",
                    absl::StrCat("asks for ", entries, " log probabilities of ", told_tokens,
                                 " prompt tokens; expected at most ", kMaxPromptLogprobs));
}

float NumberOr(bool sent, float value, const SamplingField& field) {
  return sent ? value : static_cast<float>(*field.standard);
}

v1::SamplingParams ParamsOf(const v1::SamplingOptions& options, uint64_t default_seed) {
  using namespace model;  // the fields' names
  const v1::SamplingOptions& o = options;
  v1::SamplingParams params;
  params.set_temperature(NumberOr(o.has_temperature(), o.temperature(), kTemperature));
  params.set_top_k(std::max(o.top_k(), 0));
  params.set_top_p(NumberOr(o.has_top_p(), o.top_p(), kTopP));
  params.set_min_p(NumberOr(o.has_min_p(), o.min_p(), kMinP));
  params.set_seed(o.has_seed() ? o.seed() : default_seed);
  params.set_num_logprobs(o.has_logprobs() ? o.logprobs() : -1);
  params.set_repetition_penalty(
      NumberOr(o.has_repetition_penalty(), o.repetition_penalty(), kRepetitionPenalty));
  params.set_presence_penalty(
      NumberOr(o.has_presence_penalty(), o.presence_penalty(), kPresencePenalty));
  params.set_frequency_penalty(
      NumberOr(o.has_frequency_penalty(), o.frequency_penalty(), kFrequencyPenalty));
  for (const auto& [id, bias] : options.logit_bias()) {
    params.add_bias_ids(id);
    params.add_bias_values(bias);
  }
  return params;
}

}  // namespace

PromptLimits LimitsOf(const v1::ModelDescription& model, const v1::ShardPlan& plan) {
  const int64_t kv_tokens = int64_t{plan.num_kv_blocks()} * plan.kv_block_tokens();
  PromptLimits limits;
  limits.vocab_size = model.architecture().vocab_size();
  limits.context_tokens = static_cast<int>(std::min<int64_t>(plan.max_model_len(), kv_tokens));
  return limits;
}

absl::Status CheckTokenIds(absl::Span<const int32_t> ids, absl::string_view field, int vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    return FieldError(absl::StrCat(field, "[", i, "]"),
                      absl::StrCat("is ", ids[i], "; expected 0 .. ", vocab_size - 1));
  }
  return absl::OkStatus();
}

absl::Status CheckPrompt(absl::Span<const int32_t> ids, absl::string_view field,
                         const PromptLimits& limits) {
  if (ids.empty()) return FieldError(field, "is empty; expected at least one token");
  if (ids.size() >= static_cast<size_t>(limits.context_tokens)) {
    return FieldError(field, absl::StrCat("has ", ids.size(), " tokens; expected at most ",
                                          limits.context_tokens - 1, " (the context of ",
                                          limits.context_tokens, " less one to generate)"));
  }
  return CheckTokenIds(ids, "token_ids.ids", limits.vocab_size);
}

absl::StatusOr<CheckedSampling> CheckSampling(const v1::SamplingOptions& options,
                                              const SamplingDefaults& defaults) {
  const bool has_tokenizer = defaults.has_tokenizer;
  TESSERA_RETURN_IF_ERROR(CheckNumbers(options));
  TESSERA_RETURN_IF_ERROR(CheckPromptLogprobs(options, defaults.told_tokens));
  TESSERA_RETURN_IF_ERROR(CheckWords(model::kStop, options.stop(), has_tokenizer));
  TESSERA_RETURN_IF_ERROR(CheckWords(model::kBadWords, options.bad_words(), has_tokenizer));
  TESSERA_RETURN_IF_ERROR(CheckLogitBias(options, defaults.vocab_size));
  const std::string stop_ids_name = NameOf(model::kStopTokenIds);
  TESSERA_RETURN_IF_ERROR(
      CheckCount(options.stop_token_ids_size(), stop_ids_name, model::kStopTokenIds.most));
  TESSERA_RETURN_IF_ERROR(
      CheckTokenIds(options.stop_token_ids(), stop_ids_name, defaults.vocab_size));
  TESSERA_RETURN_IF_ERROR(CheckBesideStructured(options, has_tokenizer));

  const int room = defaults.context_tokens - defaults.prompt_tokens;
  CheckedSampling checked;
  checked.params = ParamsOf(options, defaults.seed);
  checked.max_tokens = options.has_max_tokens() ? std::min(options.max_tokens(), room) : room;
  checked.min_tokens = std::min(options.min_tokens(), checked.max_tokens);
  checked.choices = options.has_n() ? options.n() : static_cast<int>(*model::kN.standard);
  checked.prompt_logprobs = options.has_prompt_logprobs() ? options.prompt_logprobs() : -1;
  checked.stop.assign(options.stop().begin(), options.stop().end());
  const std::set<int32_t> stop_ids(options.stop_token_ids().begin(),
                                   options.stop_token_ids().end());
  checked.stop_token_ids.assign(stop_ids.begin(), stop_ids.end());
  checked.ignore_eos = options.ignore_eos();
  return checked;
}

absl::Status CheckPriority(int32_t priority) {
  return CheckNumber(model::kPriority, model::kPriority.name, priority);
}

absl::Status CheckScoreOptions(const v1::ScoreRequest& request) {
  TESSERA_RETURN_IF_ERROR(
      CheckNumber(model::kTopLogprobs, model::kTopLogprobs.name, request.top_logprobs()));
  const int count = request.continuations_size();
  if (model::Allows(model::kContinuations, count)) return absl::OkStatus();
  return FieldError(model::kContinuations.name,
                    absl::StrCat("has ", count, " entries; expected ",
                                 model::ValuesText(model::kContinuations)));
}

absl::Status CheckRequestId(absl::string_view request_id) {
  if (request_id.size() > kMaxRequestIdBytes) {
    return FieldError("request_id", absl::StrCat("has ", request_id.size(),
                                                 " bytes; expected at most ", kMaxRequestIdBytes));
  }
  for (char c : request_id) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) {
      return FieldError("request_id", "holds a character that is not printable ASCII");
    }
  }
  return absl::OkStatus();
}

}  // namespace tessera::coordinator
