#include "coordinator/schedule/result_check.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/prefetch.h"
#include "proto/base/annotate.h"
#include "proto/base/status_macros.h"

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

// `Logprob`: SampledToken or PromptLogprob.
template <typename Logprob>
absl::Status CheckAlternatives(const Logprob& logprob, int most, int vocab_size) {
  if (logprob.top_ids_size() != logprob.top_logprobs_size() || logprob.top_ids_size() > most) {
    return absl::InternalError(absl::StrCat(logprob.top_ids_size(), " alternatives with ",
                                            logprob.top_logprobs_size(),
                                            " log probabilities; expected at most ", most));
  }
  for (const int32_t id : logprob.top_ids()) TESSERA_RETURN_IF_ERROR(CheckTokenId(id, vocab_size));
  for (const float top : logprob.top_logprobs()) TESSERA_RETURN_IF_ERROR(CheckLogprob(top));
  return absl::OkStatus();
}

absl::Status CheckToken(const ExpectedChunk& chunk, const v1::SampledToken& token, int vocab_size) {
  if (token.sequence_id() != chunk.sequence_id) {
    return absl::InternalError(absl::StrCat("token is for sequence ", token.sequence_id()));
  }
  TESSERA_RETURN_IF_ERROR(CheckTokenId(token.token_id(), vocab_size));
  TESSERA_RETURN_IF_ERROR(CheckLogprob(token.logprob()));
  return CheckAlternatives(token, std::max(0, chunk.num_logprobs), vocab_size);
}

absl::Status CheckLogits(const ExpectedChunk& chunk, const v1::ChunkLogits& logits,
                         int vocab_size) {
  if (logits.sequence_id() != chunk.sequence_id) {
    return absl::InternalError(absl::StrCat("logits are for sequence ", logits.sequence_id()));
  }
  if (logits.num_tokens() != chunk.tokens) {
    return absl::InternalError(
        absl::StrCat("logits of ", logits.num_tokens(), " tokens; expected ", chunk.tokens));
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

absl::Status CheckPromptLogprob(int32_t wanted, int most, const v1::PromptLogprob& target,
                                int vocab_size) {
  if (target.token_id() != wanted) {
    return absl::InternalError(
        absl::StrCat("target is token ", target.token_id(), "; expected ", wanted));
  }
  TESSERA_RETURN_IF_ERROR(CheckLogprob(target.logprob()));
  if (target.vocab_rank() < 1 || (vocab_size > 0 && target.vocab_rank() > vocab_size)) {
    return absl::InternalError(
        absl::StrCat("target is at rank ", target.vocab_rank(), "; expected at least 1",
                     vocab_size > 0 ? absl::StrCat(" .. ", vocab_size) : ""));
  }
  return CheckAlternatives(target, most, vocab_size);
}

absl::Status CheckPromptLogprobs(const ExpectedChunk& chunk, const v1::ChunkPromptLogprobs& targets,
                                 int vocab_size) {
  if (targets.sequence_id() != chunk.sequence_id) {
    return absl::InternalError(absl::StrCat("targets are for sequence ", targets.sequence_id()));
  }
  if (static_cast<size_t>(targets.prompt_logprobs_size()) != chunk.prompt_logprob_ids.size()) {
    return absl::InternalError(absl::StrCat(targets.prompt_logprobs_size(), " targets; expected ",
                                            chunk.prompt_logprob_ids.size()));
  }
  for (int i = 0; i < targets.prompt_logprobs_size(); ++i) {
    TESSERA_RETURN_IF_ERROR(CheckPromptLogprob(chunk.prompt_logprob_ids[static_cast<size_t>(i)],
                                               chunk.num_prompt_logprobs,
                                               targets.prompt_logprobs(i), vocab_size));
  }
  return absl::OkStatus();
}

struct Counts {
  int tokens = 0;
  int logits = 0;
  int targets = 0;
};

Counts WantedBy(absl::Span<const ExpectedChunk> expected) {
  Counts counts;
  for (const ExpectedChunk& chunk : expected) {
    counts.tokens += chunk.samples;
    counts.logits += chunk.logits;
    counts.targets += !chunk.prompt_logprob_ids.empty();
  }
  return counts;
}

absl::Status CheckCount(const char* what, int actual, int expected) {
  if (actual == expected) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("has ", actual, " ", what, "; expected ", expected));
}

absl::Status CheckCounts(const Counts& wanted, const v1::StepResult& result) {
  TESSERA_RETURN_IF_ERROR(CheckCount("tokens", result.tokens_size(), wanted.tokens));
  TESSERA_RETURN_IF_ERROR(CheckCount("blocks of logits", result.logits_size(), wanted.logits));
  return CheckCount("lists of targets", result.prompt_logprobs_size(), wanted.targets);
}

absl::Status CheckChunk(const ExpectedChunk& chunk, const v1::StepResult& result, int vocab_size,
                        Counts* next) {
  if (chunk.samples) {
    const int far = next->tokens + kPrefetchFar;
    if (far < result.tokens_size()) Prefetch(result.tokens(far));
    TESSERA_RETURN_IF_ERROR(CheckToken(chunk, result.tokens(next->tokens++), vocab_size));
  }
  if (chunk.logits) {
    TESSERA_RETURN_IF_ERROR(CheckLogits(chunk, result.logits(next->logits++), vocab_size));
  }
  if (!chunk.prompt_logprob_ids.empty()) {
    TESSERA_RETURN_IF_ERROR(
        CheckPromptLogprobs(chunk, result.prompt_logprobs(next->targets++), vocab_size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckStepResult(int64_t step_id, absl::Span<const ExpectedChunk> expected,
                             const v1::StepResult& result, int vocab_size) {
  const absl::Status counts = CheckCounts(WantedBy(expected), result);
  if (!counts.ok()) {
    return absl::InternalError(absl::StrCat("result of step ", step_id, " ", counts.message()));
  }
  Counts next;
  for (const ExpectedChunk& chunk : expected) {
    const absl::Status status = CheckChunk(chunk, result, vocab_size, &next);
    if (!status.ok()) {
      return Annotate(status,
                      absl::StrCat("result of step ", step_id, ", sequence ", chunk.sequence_id));
    }
  }
  return absl::OkStatus();
}

}  // namespace tessera::coordinator
