// The sampling fields of a request, each declared once: what it is called, which values it takes,
// what holds when it is left out, what it does. Read by the coordinator's checks, by the worker's,
// by the doors that take JSON and by the command line; tests compare inference.proto's comments and
// deploy/flags.md with it.
//
// A new field is a line in inference.proto and a row here; CheckSampling then says what it means
// beyond its range.
//
//   for (const SamplingField& field : kSamplingFields) {
//     if (std::optional<double> value = NumberIn(options, field); value && !Allows(field, *value)) {
//       return FieldError(field.name, WhyRefused(field, *value));  // "is 101; expected 0 .. 100"
//     }
//   }
#ifndef TESSERA_PROTO_MODEL_SAMPLING_FIELDS_H_
#define TESSERA_PROTO_MODEL_SAMPLING_FIELDS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "proto/base/range.h"

namespace tessera::v1 {
class SamplingOptions;
}

namespace tessera::model {

enum class SamplingKind { kInt, kFloat, kSeed, kBool, kTexts, kTokenIds, kBias, kStructured };

struct SamplingField {
  const char* name;  // of the message's field and of JSON's; with dashes the command line's
  SamplingKind kind;
  const char* help;
  const char* unit = "";
  Range range = {};  // of a number, or of each one in a list of them
  // What holds when the field is left out: a number, or words where it depends.
  std::optional<double> standard = std::nullopt;
  const char* otherwise = "";
  // Lists: entries at most, and bytes of each text (at least 1).
  int most = 0;
  int most_bytes = 0;
  bool flag = true;  // the command line has it, too
};

// Beyond any vocabulary and any context.
inline constexpr int kMostTokens = 1 << 24;
inline constexpr int kMostLogprobs = 20;

inline constexpr SamplingField kMaxTokens = {
    .name = "max_tokens",
    .kind = SamplingKind::kInt,
    .help = "length of the answer at most",
    .unit = "tokens",
    .range = {.lowest = 1, .highest = kMostTokens},
    .otherwise = "what the context leaves"};
inline constexpr SamplingField kTemperature = {.name = "temperature",
                                               .kind = SamplingKind::kFloat,
                                               .help = "how evenly tokens are sampled; 0: greedy",
                                               .range = {.lowest = 0, .highest = 100},
                                               .standard = 1};
inline constexpr SamplingField kTopK = {.name = "top_k",
                                        .kind = SamplingKind::kInt,
                                        .help = "the k likeliest tokens alone; 0 or -1: all",
                                        .unit = "tokens",
                                        .range = {.lowest = -1, .highest = kMostTokens},
                                        .standard = 0};
inline constexpr SamplingField kTopP = {.name = "top_p",
                                        .kind = SamplingKind::kFloat,
                                        .help = "the likeliest tokens that sum to p alone; 1: all",
                                        .range = {.lowest = 0, .highest = 1, .above_lowest = true},
                                        .standard = 1};
inline constexpr SamplingField kMinP = {
    .name = "min_p",
    .kind = SamplingKind::kFloat,
    .help = "no token below this share of the likeliest one's probability; 0: all",
    .range = {.lowest = 0, .highest = 1},
    .standard = 0};
inline constexpr SamplingField kSeed = {.name = "seed",
                                        .kind = SamplingKind::kSeed,
                                        .help = "the same seed samples the same tokens",
                                        .otherwise = "drawn by the server"};
inline constexpr SamplingField kStop = {
    .name = "stop",
    .kind = SamplingKind::kTexts,
    .help = "the answer ends before this text; several may be given",
    .most = 16,
    .most_bytes = 1024};
inline constexpr SamplingField kIgnoreEos = {.name = "ignore_eos",
                                             .kind = SamplingKind::kBool,
                                             .help = "go on past the end of the answer"};
inline constexpr SamplingField kLogprobs = {
    .name = "logprobs",
    .kind = SamplingKind::kInt,
    .help = "log probability of each token, and of so many alternatives",
    .range = {.lowest = 0, .highest = kMostLogprobs},
    .otherwise = "none"};
inline constexpr SamplingField kRepetitionPenalty = {
    .name = "repetition_penalty",
    .kind = SamplingKind::kFloat,
    .help = "above 1: what stands in prompt or output becomes less likely",
    .range = {.lowest = 0, .highest = 100, .above_lowest = true},
    .standard = 1};
inline constexpr SamplingField kPresencePenalty = {
    .name = "presence_penalty",
    .kind = SamplingKind::kFloat,
    .help = "above 0: what stands in the output becomes less likely",
    .range = {.lowest = -2, .highest = 2},
    .standard = 0};
inline constexpr SamplingField kFrequencyPenalty = {
    .name = "frequency_penalty",
    .kind = SamplingKind::kFloat,
    .help = "as presence_penalty, for each time it stands there",
    .range = {.lowest = -2, .highest = 2},
    .standard = 0};
inline constexpr SamplingField kLogitBias = {.name = "logit_bias",
                                             .kind = SamplingKind::kBias,
                                             .help = "token id → what is added to its logit",
                                             .range = {.lowest = -100, .highest = 100},
                                             .most = 1024,
                                             .flag = false};
inline constexpr SamplingField kStopTokenIds = {.name = "stop_token_ids",
                                                .kind = SamplingKind::kTokenIds,
                                                .help = "each ends the answer",
                                                .most = 128,
                                                .flag = false};
inline constexpr SamplingField kMinTokens = {
    .name = "min_tokens",
    .kind = SamplingKind::kInt,
    .help = "no end of the answer before; max_tokens at most",
    .unit = "tokens",
    .range = {.lowest = 0, .highest = kMostTokens},
    .standard = 0};
inline constexpr SamplingField kBadWords = {.name = "bad_words",
                                            .kind = SamplingKind::kTexts,
                                            .help = "never generated",
                                            .most = 64,
                                            .most_bytes = 256,
                                            .flag = false};
inline constexpr SamplingField kN = {.name = "n",
                                     .kind = SamplingKind::kInt,
                                     .help = "answers to the one prompt",
                                     .range = {.lowest = 1, .highest = 64},
                                     .standard = 1,
                                     .flag = false};
inline constexpr SamplingField kPromptLogprobs = {
    .name = "prompt_logprobs",
    .kind = SamplingKind::kInt,
    .help = "as logprobs, of the prompt's tokens",
    .range = {.lowest = 0, .highest = kMostLogprobs},
    .otherwise = "none",
    .flag = false};
inline constexpr SamplingField kStructured = {
    .name = "structured",
    .kind = SamplingKind::kStructured,
    .help = "what the output must match: a JSON schema, a regular expression, one of some choices",
    .otherwise = "anything",
    .flag = false};

// All of SamplingOptions, in the message's order.
inline constexpr SamplingField kSamplingFields[] = {
    kMaxTokens,  kTemperature,       kTopK,            kTopP,
    kMinP,       kSeed,              kStop,            kIgnoreEos,
    kLogprobs,   kRepetitionPenalty, kPresencePenalty, kFrequencyPenalty,
    kLogitBias,  kStopTokenIds,      kMinTokens,       kBadWords,
    kN,          kPromptLogprobs,    kStructured};

// Numbers of a request that stand beside its sampling.
inline constexpr SamplingField kPriority = {
    .name = "priority",
    .kind = SamplingKind::kInt,
    .help = "lower first, with --scheduling-policy priority",
    .range = {.lowest = -1'000'000, .highest = 1'000'000},
    .standard = 0};
inline constexpr SamplingField kTopLogprobs = {
    .name = "top_logprobs",
    .kind = SamplingKind::kInt,
    .help = "alternatives told for each token of a continuation",
    .range = {.lowest = 0, .highest = kMostLogprobs},
    .standard = 0};

// How many entries a score has.
inline constexpr SamplingField kContinuations = {
    .name = "continuations",
    .kind = SamplingKind::kInt,
    .help = "each at least one token",
    .range = {.lowest = 1, .highest = 256}};
// What /v1/completions takes for max_tokens where the request has none, as OpenAI's.
inline constexpr int kCompletionTokens = 16;

// Whether a number is in the field's range. NaN never is.
constexpr bool Allows(const SamplingField& field, double value) {
  return field.range.Contains(value);
}

// "0 .. 100", "more than 0 .. 1", "at most 16 of 1024 bytes"; empty where anything goes.
std::string ValuesText(const SamplingField& field);

// "1", "what the context leaves"; empty: nothing is asked for.
std::string DefaultText(const SamplingField& field);

// "is 101; expected 0 .. 100".
std::string WhyRefused(const SamplingField& field, double value);

// The field's number as a client sent it; nothing for one left out or of another kind.
std::optional<double> NumberIn(const v1::SamplingOptions& options, const SamplingField& field);

// Setters by the field's kind.
void SetInt(const SamplingField& field, int32_t value, v1::SamplingOptions* options);
void SetFloat(const SamplingField& field, float value, v1::SamplingOptions* options);
void SetBool(const SamplingField& field, bool value, v1::SamplingOptions* options);
void SetSeed(const SamplingField& field, uint64_t value, v1::SamplingOptions* options);
void AddText(const SamplingField& field, std::string value, v1::SamplingOptions* options);
void AddTokenId(const SamplingField& field, int32_t value, v1::SamplingOptions* options);

}  // namespace tessera::model

#endif  // TESSERA_PROTO_MODEL_SAMPLING_FIELDS_H_
