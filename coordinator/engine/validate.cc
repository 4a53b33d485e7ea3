#include "coordinator/engine/validate.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using wire::FieldError;

// One sampling number and the interval it must lie in.
struct FloatRange {
  absl::string_view field;
  float low;
  bool low_allowed;
  float high;
};

absl::Status CheckFloat(float value, const FloatRange& range) {
  const bool above = range.low_allowed ? value >= range.low : value > range.low;
  // Written so that NaN, for which every comparison is false, is refused.
  if (above && value <= range.high) return absl::OkStatus();
  const std::string shown = std::isnan(value) ? "NaN" : absl::StrCat(value);
  return FieldError(range.field,
                    absl::StrCat("is ", shown, "; expected ", range.low_allowed ? "" : "more than ",
                                 range.low, " .. ", range.high));
}

absl::Status CheckInt(int value, absl::string_view field, int low, int high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return FieldError(field, absl::StrCat("is ", value, "; expected ", low, " .. ", high));
}

absl::Status CheckCount(int count, absl::string_view field, int most) {
  if (count <= most) return absl::OkStatus();
  return FieldError(field, absl::StrCat("has ", count, " entries; expected at most ", most));
}

// Some words that only a model with a tokenizer can look for.
struct WordList {
  absl::string_view field;
  const google::protobuf::RepeatedPtrField<std::string>& words;
  int most;
  int most_bytes;
};

absl::Status CheckWords(const WordList& list, bool has_tokenizer) {
  TESSERA_RETURN_IF_ERROR(CheckCount(list.words.size(), list.field, list.most));
  if (!list.words.empty() && !has_tokenizer) {
    return FieldError(list.field, "is set; expected none: this model has no tokenizer");
  }
  for (int i = 0; i < list.words.size(); ++i) {
    const size_t bytes = list.words[i].size();
    if (bytes >= 1 && bytes <= static_cast<size_t>(list.most_bytes)) continue;
    return FieldError(absl::StrCat(list.field, "[", i, "]"),
                      absl::StrCat("has ", bytes, " bytes; expected 1 .. ", list.most_bytes));
  }
  return absl::OkStatus();
}

absl::Status CheckLogitBias(const v1::SamplingOptions& options, int vocab_size) {
  constexpr absl::string_view kField = "sampling.logit_bias";
  TESSERA_RETURN_IF_ERROR(CheckCount(options.logit_bias().size(), kField, kMaxLogitBias));
  for (const auto& [id, bias] : options.logit_bias()) {
    const std::string field = absl::StrCat(kField, "[", id, "]");
    if (id < 0 || id >= vocab_size) {
      return FieldError(field, absl::StrCat("names no token; expected ids 0 .. ", vocab_size - 1));
    }
    TESSERA_RETURN_IF_ERROR(CheckFloat(bias, {field, -kMaxBias, true, kMaxBias}));
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

absl::Status CheckNumbers(const v1::SamplingOptions& o) {
  const auto or_one = [](bool has, float value) { return has ? value : 1.0f; };
  const FloatRange temperature{"sampling.temperature", 0, true, 100};
  const FloatRange top_p{"sampling.top_p", 0, false, 1};
  const FloatRange min_p{"sampling.min_p", 0, true, 1};
  const FloatRange repetition{"sampling.repetition_penalty", 0, false, 100};
  const FloatRange presence{"sampling.presence_penalty", -2, true, 2};
  const FloatRange frequency{"sampling.frequency_penalty", -2, true, 2};
  TESSERA_RETURN_IF_ERROR(CheckFloat(or_one(o.has_temperature(), o.temperature()), temperature));
  TESSERA_RETURN_IF_ERROR(CheckFloat(or_one(o.has_top_p(), o.top_p()), top_p));
  TESSERA_RETURN_IF_ERROR(CheckFloat(o.min_p(), min_p));
  TESSERA_RETURN_IF_ERROR(
      CheckFloat(or_one(o.has_repetition_penalty(), o.repetition_penalty()), repetition));
  TESSERA_RETURN_IF_ERROR(CheckFloat(o.presence_penalty(), presence));
  TESSERA_RETURN_IF_ERROR(CheckFloat(o.frequency_penalty(), frequency));
  TESSERA_RETURN_IF_ERROR(CheckInt(o.top_k(), "sampling.top_k", -1, kMaxTokens));
  TESSERA_RETURN_IF_ERROR(CheckInt(o.logprobs(), "sampling.logprobs", 0, kMaxLogprobs));
  TESSERA_RETURN_IF_ERROR(
      CheckInt(o.prompt_logprobs(), "sampling.prompt_logprobs", 0, kMaxLogprobs));
  return CheckInt(o.has_n() ? o.n() : 1, "sampling.n", 1, kMaxN);
}

absl::Status CheckLengths(const v1::SamplingOptions& options) {
  const int max_tokens = options.has_max_tokens() ? options.max_tokens() : kMaxTokens;
  TESSERA_RETURN_IF_ERROR(CheckInt(max_tokens, "sampling.max_tokens", 1, kMaxTokens));
  return CheckInt(options.min_tokens(), "sampling.min_tokens", 0, max_tokens);
}

absl::Status CheckPromptLogprobs(const v1::SamplingOptions& options, int told_tokens) {
  if (!options.has_prompt_logprobs()) return absl::OkStatus();
  const int64_t entries = int64_t{told_tokens} * (1 + options.prompt_logprobs());
  if (entries <= kMaxPromptLogprobs) return absl::OkStatus();
  return FieldError("sampling.prompt_logprobs",
                    absl::StrCat("asks for ", entries, " log probabilities of ", told_tokens,
                                 " prompt tokens; expected at most ", kMaxPromptLogprobs));
}

v1::SamplingParams ParamsOf(const v1::SamplingOptions& options, uint64_t default_seed) {
  v1::SamplingParams params;
  params.set_temperature(options.has_temperature() ? options.temperature() : 1.0f);
  params.set_top_k(std::max(options.top_k(), 0));
  params.set_top_p(options.has_top_p() ? options.top_p() : 1.0f);
  params.set_min_p(options.min_p());
  params.set_seed(options.has_seed() ? options.seed() : default_seed);
  params.set_num_logprobs(options.has_logprobs() ? options.logprobs() : -1);
  params.set_repetition_penalty(options.has_repetition_penalty() ? options.repetition_penalty()
                                                                 : 1.0f);
  params.set_presence_penalty(options.presence_penalty());
  params.set_frequency_penalty(options.frequency_penalty());
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
  TESSERA_RETURN_IF_ERROR(CheckLengths(options));
  TESSERA_RETURN_IF_ERROR(CheckPromptLogprobs(options, defaults.told_tokens));
  TESSERA_RETURN_IF_ERROR(CheckWords(
      {"sampling.stop", options.stop(), kMaxStopStrings, kMaxStopStringBytes}, has_tokenizer));
  TESSERA_RETURN_IF_ERROR(CheckWords(
      {"sampling.bad_words", options.bad_words(), kMaxBadWords, kMaxBadWordBytes}, has_tokenizer));
  TESSERA_RETURN_IF_ERROR(CheckLogitBias(options, defaults.vocab_size));
  TESSERA_RETURN_IF_ERROR(
      CheckCount(options.stop_token_ids_size(), "sampling.stop_token_ids", kMaxStopTokenIds));
  TESSERA_RETURN_IF_ERROR(
      CheckTokenIds(options.stop_token_ids(), "sampling.stop_token_ids", defaults.vocab_size));
  TESSERA_RETURN_IF_ERROR(CheckBesideStructured(options, has_tokenizer));

  const int room = defaults.context_tokens - defaults.prompt_tokens;
  CheckedSampling checked;
  checked.params = ParamsOf(options, defaults.seed);
  checked.max_tokens = options.has_max_tokens() ? std::min(options.max_tokens(), room) : room;
  checked.min_tokens = std::min(options.min_tokens(), checked.max_tokens);
  checked.choices = options.has_n() ? options.n() : 1;
  checked.prompt_logprobs = options.has_prompt_logprobs() ? options.prompt_logprobs() : -1;
  checked.stop.assign(options.stop().begin(), options.stop().end());
  const std::set<int32_t> stop_ids(options.stop_token_ids().begin(),
                                   options.stop_token_ids().end());
  checked.stop_token_ids.assign(stop_ids.begin(), stop_ids.end());
  checked.ignore_eos = options.ignore_eos();
  return checked;
}

absl::Status CheckPriority(int32_t priority) {
  return CheckInt(priority, "priority", -kMaxPriority, kMaxPriority);
}

absl::Status CheckScoreOptions(const v1::ScoreRequest& request) {
  TESSERA_RETURN_IF_ERROR(CheckInt(request.top_logprobs(), "top_logprobs", 0, kMaxLogprobs));
  const int count = request.continuations_size();
  if (count >= 1 && count <= kMaxContinuations) return absl::OkStatus();
  return FieldError("continuations",
                    absl::StrCat("has ", count, " entries; expected 1 .. ", kMaxContinuations));
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
