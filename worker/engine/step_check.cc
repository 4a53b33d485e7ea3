#include "worker/engine/step_check.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "proto/wire/status_builders.h"
#include "proto/wire/status_macros.h"

namespace tessera::worker {
namespace {

constexpr int64_t kMaxLogitBytes = int64_t{1} << 30;  // one protobuf message holds less than 2 GiB

absl::Status Bad(absl::string_view field, absl::string_view expected, absl::string_view actual) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": expected ", expected, ", got ", actual));
}

absl::Status CheckSampling(const v1::SamplingParams& sampling, int32_t vocab_size) {
  const float temperature = sampling.temperature();
  if (!std::isfinite(temperature) || temperature < 0) {
    return Bad("temperature", "a finite number >= 0", absl::StrCat(temperature));
  }
  if (sampling.top_k() < 0) return Bad("top_k", ">= 0", absl::StrCat(sampling.top_k()));
  if (!(sampling.top_p() >= 0 && sampling.top_p() <= 1)) {
    return Bad("top_p", "0 .. 1", absl::StrCat(sampling.top_p()));
  }
  if (!(sampling.min_p() >= 0 && sampling.min_p() <= 1)) {
    return Bad("min_p", "0 .. 1", absl::StrCat(sampling.min_p()));
  }
  if (sampling.num_logprobs() < -1 || sampling.num_logprobs() > vocab_size) {
    return Bad("num_logprobs", absl::StrCat("-1 .. ", vocab_size),
               absl::StrCat(sampling.num_logprobs()));
  }
  return absl::OkStatus();
}

}  // namespace

StepChecker::StepChecker(const v1::ShardPlan& plan, int32_t vocab_size)
    : vocab_size_(vocab_size),
      block_tokens_(plan.kv_block_tokens()),
      num_blocks_(plan.num_kv_blocks()),
      max_model_len_(plan.max_model_len()),
      max_tokens_(plan.max_tokens_per_step()),
      max_chunks_(plan.max_sequences_per_step()),
      block_used_in_(plan.num_kv_blocks(), 0) {}

absl::Status StepChecker::Check(const v1::StepPlan& step) {
  const std::string where = absl::StrCat("step ", step.step_id());
  if (step.chunks_size() < 1 || step.chunks_size() > max_chunks_) {
    return Bad(where + ": chunks", absl::StrCat("1 .. ", max_chunks_),
               absl::StrCat(step.chunks_size()));
  }
  ++generation_;
  int64_t tokens = 0, logit_tokens = 0;
  for (int i = 0; i < step.chunks_size(); ++i) {
    const v1::SequenceChunk& chunk = step.chunks(i);
    const absl::Status status = CheckChunk(chunk);
    if (!status.ok()) {
      return wire::Annotate(
          status, absl::StrCat(where, ", chunk ", i, " (sequence ", chunk.sequence_id(), ")"));
    }
    tokens += chunk.token_ids_size();
    if (chunk.return_logits()) logit_tokens += chunk.token_ids_size();
  }
  if (tokens > max_tokens_) {
    return Bad(where + ": tokens", absl::StrCat("at most ", max_tokens_), absl::StrCat(tokens));
  }
  if (logit_tokens * vocab_size_ * int64_t{sizeof(float)} > kMaxLogitBytes) {
    return Bad(where + ": return_logits", absl::StrCat("at most ", kMaxLogitBytes, " bytes"),
               absl::StrCat(logit_tokens, " tokens"));
  }
  return absl::OkStatus();
}

absl::Status StepChecker::CheckChunk(const v1::SequenceChunk& chunk) {
  const int64_t end = int64_t{chunk.start_position()} + chunk.token_ids_size();
  if (chunk.token_ids_size() < 1) return Bad("token_ids", "at least one", "none");
  if (chunk.start_position() < 0 || end > max_model_len_) {
    return Bad("positions", absl::StrCat("within [0, ", max_model_len_, ")"),
               absl::StrCat("[", chunk.start_position(), ", ", end, ")"));
  }
  for (int32_t id : chunk.token_ids()) {
    if (id < 0 || id >= vocab_size_) {
      return Bad("token id", absl::StrCat("0 .. ", vocab_size_ - 1), absl::StrCat(id));
    }
  }
  TESSERA_RETURN_IF_ERROR(CheckBlocks(chunk));
  return chunk.has_sampling() ? CheckSampling(chunk.sampling(), vocab_size_) : absl::OkStatus();
}

absl::Status StepChecker::CheckBlocks(const v1::SequenceChunk& chunk) {
  const int64_t end = int64_t{chunk.start_position()} + chunk.token_ids_size();
  const int64_t needed = (end + block_tokens_ - 1) / block_tokens_;
  if (chunk.block_table_size() < needed) {
    return Bad("block_table", absl::StrCat("at least ", needed, " blocks for ", end, " positions"),
               absl::StrCat(chunk.block_table_size()));
  }
  for (int32_t block : chunk.block_table()) {
    if (block < 0 || block >= num_blocks_) {
      return Bad("block", absl::StrCat("0 .. ", num_blocks_ - 1), absl::StrCat(block));
    }
    if (block_used_in_[block] == generation_) {
      return Bad("block_table", "each KV block once in a step",
                 absl::StrCat("block ", block, " twice"));
    }
    block_used_in_[block] = generation_;
  }
  return absl::OkStatus();
}

}  // namespace tessera::worker
