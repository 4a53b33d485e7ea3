// What a client sent → checked values. Pure: no clock, no randomness, no I/O.
//
// Every refusal is INVALID_ARGUMENT that names the field, what was sent and the allowed range, with
// a google.rpc.BadRequest detail.
//
//   TESSERA_RETURN_IF_ERROR(CheckPrompt(ids, "prompt", limits));
//   TESSERA_ASSIGN_OR_RETURN(CheckedSampling sampling, CheckSampling(options, defaults));
#ifndef TESSERA_COORDINATOR_ENGINE_VALIDATE_H_
#define TESSERA_COORDINATOR_ENGINE_VALIDATE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/inference.pb.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::coordinator {

// The sampling fields' own bounds stand in proto/model/sampling_fields.h.
inline constexpr int kMaxRequestIdBytes = 128;
inline constexpr size_t kMaxScoreTokens = size_t{1} << 20;  // of all continuations with the prompt
// Log probabilities that one message tells of the prompt: what fits gRPC's 4 MB with room to spare.
inline constexpr int64_t kMaxPromptLogprobs = 100'000;

// What the served model and its KV cache allow.
struct PromptLimits {
  int vocab_size = 0;
  int context_tokens = 0;  // prompt + generated: max_model_len, or what all KV blocks hold if less
};

PromptLimits LimitsOf(const v1::ModelDescription& model, const v1::ShardPlan& plan);

struct CheckedSampling {
  v1::SamplingParams params;
  int max_tokens = 0;  // already cut to what the context leaves
  int min_tokens = 0;  // likewise
  int choices = 1;
  int prompt_logprobs = -1;  // alternatives for each prompt token; -1: none asked for
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;  // distinct
  bool ignore_eos = false;
};

struct SamplingDefaults {
  uint64_t seed = 0;  // used when the client sent none
  int prompt_tokens = 0;
  int context_tokens = 0;
  int told_tokens = 0;  // of the prompt: those that prompt_logprobs would tell of
  int vocab_size = 0;
  bool has_tokenizer = true;  // without one there is no text to stop at
};

// The prompt's ids: at least one, room for one more in the context, each within the vocabulary.
// `field` is what the client's request calls the whole ("prompt", "messages").
absl::Status CheckPrompt(absl::Span<const int32_t> ids, absl::string_view field,
                         const PromptLimits& limits);

// Ids within the vocabulary; an empty list is fine.
absl::Status CheckTokenIds(absl::Span<const int32_t> ids, absl::string_view field, int vocab_size);

absl::StatusOr<CheckedSampling> CheckSampling(const v1::SamplingOptions& options,
                                              const SamplingDefaults& defaults);

absl::Status CheckPriority(int32_t priority);

// What stands beside the texts and ids of a score.
absl::Status CheckScoreOptions(const v1::ScoreRequest& request);

// At most kMaxRequestIdBytes printable ASCII characters.
absl::Status CheckRequestId(absl::string_view request_id);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_VALIDATE_H_
