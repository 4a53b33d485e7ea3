#include "worker/engine/sampling_check.h"

#include <bit>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/model/sampling_fields.h"
#include "worker/engine/logits_processors.h"

namespace tessera::worker {
namespace {

using model::SamplingField;

// A client's range, and 0 for a number left out: "off". NaN is out of every range.
absl::Status CheckNumber(const SamplingField& field, double value) {
  if (value == 0 || model::Allows(field, value)) return absl::OkStatus();
  return BadField(field.name, RangeText(field.range), absl::StrCat(value));
}

absl::Status CheckNumbers(const v1::SamplingParams& params, int32_t vocab_size) {
  TESSERA_RETURN_IF_ERROR(CheckNumber(model::kTemperature, params.temperature()));
  if (params.top_k() < 0) return BadField("top_k", ">= 0", absl::StrCat(params.top_k()));
  TESSERA_RETURN_IF_ERROR(CheckNumber(model::kTopK, params.top_k()));
  TESSERA_RETURN_IF_ERROR(CheckNumber(model::kTopP, params.top_p()));
  TESSERA_RETURN_IF_ERROR(CheckNumber(model::kMinP, params.min_p()));
  if (params.num_logprobs() < -1 || params.num_logprobs() > vocab_size) {
    return BadField("num_logprobs", absl::StrCat("-1 .. ", vocab_size),
                    absl::StrCat(params.num_logprobs()));
  }
  TESSERA_RETURN_IF_ERROR(CheckNumber(model::kRepetitionPenalty, params.repetition_penalty()));
  TESSERA_RETURN_IF_ERROR(CheckNumber(model::kPresencePenalty, params.presence_penalty()));
  return CheckNumber(model::kFrequencyPenalty, params.frequency_penalty());
}

// How many of the first `vocab_size` tokens the mask allows.
int64_t CountAllowed(const std::string& mask, int32_t vocab_size) {
  int64_t count = 0;
  for (int32_t byte = 0; byte < vocab_size / 8; ++byte) {
    count += std::popcount(static_cast<uint8_t>(mask[byte]));
  }
  for (int32_t id = vocab_size / 8 * 8; id < vocab_size; ++id) count += MaskAllows(mask, id);
  return count;
}

}  // namespace

absl::Status BadField(absl::string_view field, absl::string_view expected,
                      absl::string_view actual) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": expected ", expected, ", got ", actual));
}

absl::Status CheckTokenId(absl::string_view field, int32_t id, int32_t vocab_size) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return BadField(field, absl::StrCat("0 .. ", vocab_size - 1), absl::StrCat(id));
}

absl::Status SamplingChecker::Check(const v1::SamplingParams& params,
                                    const v1::LogitsState& state) {
  TESSERA_RETURN_IF_ERROR(CheckNumbers(params, vocab_size_));
  TESSERA_RETURN_IF_ERROR(CheckBias(params));
  TESSERA_RETURN_IF_ERROR(CheckIds(state));
  return CheckAllowed(state);
}

absl::Status SamplingChecker::CheckBias(const v1::SamplingParams& params) {
  if (params.bias_ids_size() != params.bias_values_size()) {
    return BadField("bias_values", absl::StrCat("one for each of ", params.bias_ids_size(), " ids"),
                    absl::StrCat(params.bias_values_size()));
  }
  named_.Clear();
  for (int32_t id : params.bias_ids()) {
    TESSERA_RETURN_IF_ERROR(CheckTokenId("bias_ids", id, vocab_size_));
    if (!named_.Insert(id)) {
      return BadField("bias_ids", "distinct ids", absl::StrCat(id, " twice"));
    }
  }
  for (float value : params.bias_values()) {
    if (model::Allows(model::kLogitBias, value)) continue;
    return BadField("bias_values", RangeText(model::kLogitBias.range), absl::StrCat(value));
  }
  return absl::OkStatus();
}

absl::Status SamplingChecker::CheckIds(const v1::LogitsState& state) {
  named_.Clear();
  for (int32_t id : state.prompt_ids()) {
    TESSERA_RETURN_IF_ERROR(CheckTokenId("prompt_ids", id, vocab_size_));
    if (!named_.Insert(id)) {
      return BadField("prompt_ids", "distinct ids", absl::StrCat(id, " twice"));
    }
  }
  if (state.output_ids_size() > max_model_len_) {
    return BadField("output_ids", absl::StrCat("at most ", max_model_len_),
                    absl::StrCat(state.output_ids_size()));
  }
  for (int32_t id : state.output_ids()) {
    TESSERA_RETURN_IF_ERROR(CheckTokenId("output_ids", id, vocab_size_));
  }
  return absl::OkStatus();
}

absl::Status SamplingChecker::CheckAllowed(const v1::LogitsState& state) {
  const std::string& mask = state.allowed_mask();
  int64_t allowed = vocab_size_;
  if (!mask.empty()) {
    const size_t bytes = (size_t{static_cast<uint32_t>(vocab_size_)} + 7) / 8;
    if (mask.size() != bytes) {
      return BadField("allowed_mask", absl::StrCat("none or ", bytes, " bytes"),
                      absl::StrCat(mask.size()));
    }
    allowed = CountAllowed(mask, vocab_size_);
  }
  named_.Clear();
  for (int32_t id : state.banned_ids()) {
    TESSERA_RETURN_IF_ERROR(CheckTokenId("banned_ids", id, vocab_size_));
    if (named_.Insert(id) && (mask.empty() || MaskAllows(mask, id))) --allowed;
  }
  if (allowed > 0) return absl::OkStatus();
  return BadField("allowed_mask and banned_ids", "a token that may be sampled", "none");
}

}  // namespace tessera::worker
