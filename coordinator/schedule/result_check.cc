#include "coordinator/schedule/result_check.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/wire/status_builders.h"
#include "proto/wire/status_macros.h"

namespace tessera::coordinator {
namespace {

absl::Status CheckTokenId(int32_t id, int vocab_size) {
  if (id >= 0 && (vocab_size == 0 || id < vocab_size)) return absl::OkStatus();
  const std::string bound = vocab_size == 0 ? "at least 0" : absl::StrCat("0 .. ", vocab_size - 1);
  return absl::InternalError(absl::StrCat("token id ", id, "; expected ", bound));
}

absl::Status CheckLogprob(float logprob) {
  if (std::isfinite(logprob)) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("log probability ", logprob, "; expected a finite one"));
}

absl::Status CheckToken(const v1::SequenceChunk& chunk, const v1::SampledToken& token,
                        int vocab_size) {
  if (token.sequence_id() != chunk.sequence_id()) {
    return absl::InternalError(absl::StrCat("token is for sequence ", token.sequence_id()));
  }
  TESSERA_RETURN_IF_ERROR(CheckTokenId(token.token_id(), vocab_size));
  TESSERA_RETURN_IF_ERROR(CheckLogprob(token.logprob()));
  const int most = std::max(0, chunk.sampling().num_logprobs());
  if (token.top_ids_size() != token.top_logprobs_size() || token.top_ids_size() > most) {
    return absl::InternalError(absl::StrCat(token.top_ids_size(), " alternatives with ",
                                            token.top_logprobs_size(),
                                            " log probabilities; expected at most ", most));
  }
  for (const int32_t id : token.top_ids()) TESSERA_RETURN_IF_ERROR(CheckTokenId(id, vocab_size));
  for (const float logprob : token.top_logprobs()) TESSERA_RETURN_IF_ERROR(CheckLogprob(logprob));
  return absl::OkStatus();
}

absl::Status CheckLogits(const v1::SequenceChunk& chunk, const v1::ChunkLogits& logits,
                         int vocab_size) {
  if (logits.sequence_id() != chunk.sequence_id()) {
    return absl::InternalError(absl::StrCat("logits are for sequence ", logits.sequence_id()));
  }
  if (logits.num_tokens() != chunk.token_ids_size()) {
    return absl::InternalError(absl::StrCat("logits of ", logits.num_tokens(), " tokens; expected ",
                                            chunk.token_ids_size()));
  }
  const uint64_t row_bytes = sizeof(float) * static_cast<uint64_t>(std::max(1, vocab_size));
  const uint64_t expected = row_bytes * static_cast<uint64_t>(logits.num_tokens());
  const uint64_t bytes = logits.values().size();
  if (vocab_size > 0 ? bytes != expected : bytes == 0 || bytes % expected != 0) {
    return absl::InternalError(absl::StrCat(bytes, " bytes of logits; expected ",
                                            vocab_size > 0 ? "" : "a multiple of ", expected));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckStepResult(const v1::StepPlan& plan, const v1::StepResult& result,
                             int vocab_size) {
  const std::string where = absl::StrCat("result of step ", plan.step_id());
  std::vector<const v1::SequenceChunk*> sampled, logged;
  for (const v1::SequenceChunk& chunk : plan.chunks()) {
    if (chunk.has_sampling()) sampled.push_back(&chunk);
    if (chunk.return_logits()) logged.push_back(&chunk);
  }
  const auto wrong_count = [&](const char* what, int actual, size_t expected) {
    return absl::InternalError(
        absl::StrCat(where, " has ", actual, " ", what, "; expected ", expected));
  };
  if (static_cast<size_t>(result.tokens_size()) != sampled.size()) {
    return wrong_count("tokens", result.tokens_size(), sampled.size());
  }
  if (static_cast<size_t>(result.logits_size()) != logged.size()) {
    return wrong_count("blocks of logits", result.logits_size(), logged.size());
  }
  const auto at = [&](const v1::SequenceChunk* chunk) {
    return absl::StrCat(where, ", sequence ", chunk->sequence_id());
  };
  for (size_t i = 0; i < sampled.size(); ++i) {
    TESSERA_RETURN_IF_ERROR(wire::Annotate(
        CheckToken(*sampled[i], result.tokens(static_cast<int>(i)), vocab_size), at(sampled[i])));
  }
  for (size_t i = 0; i < logged.size(); ++i) {
    TESSERA_RETURN_IF_ERROR(wire::Annotate(
        CheckLogits(*logged[i], result.logits(static_cast<int>(i)), vocab_size), at(logged[i])));
  }
  return absl::OkStatus();
}

}  // namespace tessera::coordinator
