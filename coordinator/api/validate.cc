#include "coordinator/api/validate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "proto/wire/status_builders.h"
#include "proto/wire/status_macros.h"

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
  const std::string expected = high == std::numeric_limits<int>::max()
                                   ? absl::StrCat("at least ", low)
                                   : absl::StrCat(low, " .. ", high);
  return FieldError(field, absl::StrCat("is ", value, "; expected ", expected));
}

absl::Status CheckStopStrings(const v1::SamplingOptions& options, bool has_tokenizer) {
  if (options.stop_size() > kMaxStopStrings) {
    return FieldError(
        "sampling.stop",
        absl::StrCat("has ", options.stop_size(), " strings; expected at most ", kMaxStopStrings));
  }
  if (options.stop_size() > 0 && !has_tokenizer) {
    return FieldError("sampling.stop", "is set; expected none: this model has no tokenizer");
  }
  for (int i = 0; i < options.stop_size(); ++i) {
    const size_t bytes = options.stop(i).size();
    if (bytes >= 1 && bytes <= kMaxStopStringBytes) continue;
    return FieldError(absl::StrCat("sampling.stop[", i, "]"),
                      absl::StrCat("has ", bytes, " bytes; expected 1 .. ", kMaxStopStringBytes));
  }
  return absl::OkStatus();
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
  constexpr int kMaxInt = std::numeric_limits<int>::max();
  const int max_tokens = options.has_max_tokens() ? options.max_tokens() : kMaxInt;
  const float temperature = options.has_temperature() ? options.temperature() : 1.0f;
  const int top_k = options.top_k();
  const float top_p = options.has_top_p() ? options.top_p() : 1.0f;
  const int logprobs = options.has_logprobs() ? options.logprobs() : 0;

  TESSERA_RETURN_IF_ERROR(CheckInt(max_tokens, "sampling.max_tokens", 1, kMaxInt));
  TESSERA_RETURN_IF_ERROR(CheckFloat(temperature, {"sampling.temperature", 0, true, 100}));
  TESSERA_RETURN_IF_ERROR(CheckInt(top_k, "sampling.top_k", -1, kMaxInt));
  TESSERA_RETURN_IF_ERROR(CheckFloat(top_p, {"sampling.top_p", 0, false, 1}));
  TESSERA_RETURN_IF_ERROR(CheckFloat(options.min_p(), {"sampling.min_p", 0, true, 1}));
  TESSERA_RETURN_IF_ERROR(CheckInt(logprobs, "sampling.logprobs", 0, kMaxLogprobs));
  TESSERA_RETURN_IF_ERROR(CheckStopStrings(options, defaults.has_tokenizer));

  CheckedSampling checked;
  checked.params.set_temperature(temperature);
  checked.params.set_top_k(std::max(top_k, 0));
  checked.params.set_top_p(top_p);
  checked.params.set_min_p(options.min_p());
  checked.params.set_seed(options.has_seed() ? options.seed() : defaults.seed);
  checked.params.set_num_logprobs(options.has_logprobs() ? logprobs : -1);
  checked.max_tokens = std::min(max_tokens, defaults.context_tokens - defaults.prompt_tokens);
  checked.stop.assign(options.stop().begin(), options.stop().end());
  checked.ignore_eos = options.ignore_eos();
  return checked;
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
