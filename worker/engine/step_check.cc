#include "worker/engine/step_check.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/base/annotate.h"
#include "proto/base/status_macros.h"

namespace tessera::worker {
namespace {

constexpr int64_t kMaxLogitBytes = int64_t{1} << 30;  // one protobuf message holds less than 2 GiB

// Behind the chunk's last position.
int64_t EndOf(const v1::SequenceChunk& chunk) {
  return int64_t{chunk.start_position()} + chunk.token_ids_size();
}

}  // namespace

StepChecker::StepChecker(const v1::ShardPlan& plan, int32_t vocab_size)
    : vocab_size_(vocab_size),
      block_tokens_(plan.kv_block_tokens()),
      num_blocks_(plan.num_kv_blocks()),
      max_model_len_(plan.max_model_len()),
      max_tokens_(plan.max_tokens_per_step()),
      max_chunks_(plan.max_sequences_per_step()),
      sampling_checker_(vocab_size, plan.max_model_len()),
      block_uses_(plan.num_kv_blocks()) {}

absl::Status StepChecker::Check(const v1::StepPlan& step, const PendingTokens& before) {
  const std::string where = absl::StrCat("step ", step.step_id());
  absl::Status status = CheckTotals(step);
  if (!status.ok()) return Annotate(status, where);
  for (int i = 0; i < step.chunks_size(); ++i) {
    status = CheckChunk(step.chunks(i), first_stamp_ + i, before);
    if (!status.ok()) {
      first_stamp_ += step.chunks_size();
      return Annotate(status, absl::StrCat(where, ", chunk ", i, " (sequence ",
                                                 step.chunks(i).sequence_id(), ")"));
    }
  }
  status = CheckCopies(step);
  first_stamp_ += step.chunks_size();
  return status.ok() ? status : Annotate(status, where);
}

absl::Status StepChecker::CheckTotals(const v1::StepPlan& step) const {
  if (step.chunks_size() < 1 || step.chunks_size() > max_chunks_) {
    return BadField("chunks", absl::StrCat("1 .. ", max_chunks_), absl::StrCat(step.chunks_size()));
  }
  int64_t tokens = 0, logit_tokens = 0;
  for (const v1::SequenceChunk& chunk : step.chunks()) {
    tokens += chunk.token_ids_size();
    if (chunk.return_logits()) logit_tokens += chunk.token_ids_size();
  }
  if (tokens > max_tokens_) {
    return BadField("tokens", absl::StrCat("at most ", max_tokens_), absl::StrCat(tokens));
  }
  if (logit_tokens * vocab_size_ * int64_t{sizeof(float)} > kMaxLogitBytes) {
    return BadField("return_logits", absl::StrCat("at most ", kMaxLogitBytes, " bytes"),
                    absl::StrCat(logit_tokens, " tokens"));
  }
  return absl::OkStatus();
}

absl::Status StepChecker::CheckChunk(const v1::SequenceChunk& chunk, int64_t stamp,
                                     const PendingTokens& before) {
  if (chunk.token_ids_size() < 1) return BadField("token_ids", "at least one", "none");
  if (chunk.start_position() < 0 || EndOf(chunk) > max_model_len_) {
    return BadField("positions", absl::StrCat("within [0, ", max_model_len_, ")"),
                    absl::StrCat("[", chunk.start_position(), ", ", EndOf(chunk), ")"));
  }
  TESSERA_RETURN_IF_ERROR(CheckTokens(chunk, before));
  TESSERA_RETURN_IF_ERROR(CheckBlocks(chunk, stamp));
  TESSERA_RETURN_IF_ERROR(CheckPromptLogprobs(chunk));
  if (!chunk.has_sampling()) return absl::OkStatus();  // its `logits_state` is never looked at
  return sampling_checker_.Check(chunk.sampling(), chunk.logits_state());
}

absl::Status StepChecker::CheckTokens(const v1::SequenceChunk& chunk,
                                      const PendingTokens& before) const {
  const bool fed = chunk.last_token_from_step() != 0;
  if (fed && chunk.last_token_from_step() != before.step_id) {
    return BadField("last_token_from_step", "0 once the leader has filled the token in",
                    absl::StrCat(chunk.last_token_from_step()));
  }
  const int known = chunk.token_ids_size() - (fed ? 1 : 0);
  for (int i = 0; i < known; ++i) {
    TESSERA_RETURN_IF_ERROR(CheckTokenId("token id", chunk.token_ids(i), vocab_size_));
  }
  if (fed && !IsPlaceholder(chunk.token_ids(known), before)) {
    return BadField("token id",
                    absl::StrCat("one of the ", before.count, " tokens of step ", before.step_id),
                    absl::StrCat(chunk.token_ids(known)));
  }
  return absl::OkStatus();
}

absl::Status StepChecker::CheckBlocks(const v1::SequenceChunk& chunk, int64_t stamp) {
  const int64_t end = EndOf(chunk);
  const int64_t first_written = chunk.start_position() / block_tokens_;
  const int64_t needed = (end + block_tokens_ - 1) / block_tokens_;
  if (chunk.block_table_size() < needed) {
    return BadField("block_table",
                    absl::StrCat("at least ", needed, " blocks for ", end, " positions"),
                    absl::StrCat(chunk.block_table_size()));
  }
  for (int i = 0; i < chunk.block_table_size(); ++i) {
    const bool writes = i >= first_written && i < needed;
    TESSERA_RETURN_IF_ERROR(UseBlock(chunk.block_table(i), writes, stamp));
  }
  return absl::OkStatus();
}

absl::Status StepChecker::UseBlock(int32_t block, bool writes, int64_t stamp) {
  if (block < 0 || block >= num_blocks_) {
    return BadField("block", absl::StrCat("0 .. ", num_blocks_ - 1), absl::StrCat(block));
  }
  BlockUse& use = block_uses_[block];
  if (use.named_by == stamp) {
    return BadField("block_table", "each KV block once", absl::StrCat("block ", block, " twice"));
  }
  if (use.written_by >= first_stamp_) {
    return BadField("block_table", "no KV block that another chunk writes",
                    absl::StrCat("block ", block, ", which chunk ", use.written_by - first_stamp_,
                                 " writes"));
  }
  if (writes && use.named_by >= first_stamp_) {
    return BadField("block_table", "to write no KV block that another chunk names",
                    absl::StrCat("block ", block, ", which chunk ", use.named_by - first_stamp_,
                                 " names"));
  }
  use.named_by = stamp;
  if (writes) use.written_by = stamp;
  return absl::OkStatus();
}

absl::Status StepChecker::CheckPromptLogprobs(const v1::SequenceChunk& chunk) const {
  if (chunk.num_prompt_logprobs() < 0 || chunk.num_prompt_logprobs() > kMaxPromptLogprobs) {
    return BadField("num_prompt_logprobs", absl::StrCat("0 .. ", kMaxPromptLogprobs),
                    absl::StrCat(chunk.num_prompt_logprobs()));
  }
  if (chunk.prompt_logprob_ids_size() != 0 &&
      chunk.prompt_logprob_ids_size() != chunk.token_ids_size()) {
    return BadField("prompt_logprob_ids",
                    absl::StrCat("none or one for each of ", chunk.token_ids_size(), " tokens"),
                    absl::StrCat(chunk.prompt_logprob_ids_size()));
  }
  for (int32_t id : chunk.prompt_logprob_ids()) {
    if (id != -1) TESSERA_RETURN_IF_ERROR(CheckTokenId("prompt_logprob_ids", id, vocab_size_));
  }
  return absl::OkStatus();
}

absl::Status StepChecker::CheckCopies(const v1::StepPlan& step) {
  for (int i = 0; i < step.copies_size(); ++i) {
    const absl::Status status = CheckCopy(step.copies(i), step);
    if (!status.ok()) return Annotate(status, absl::StrCat("copy ", i));
  }
  return absl::OkStatus();
}

absl::Status StepChecker::CheckCopy(const v1::BlockCopy& copy, const v1::StepPlan& step) {
  for (int32_t block : {copy.source(), copy.destination()}) {
    if (block < 0 || block >= num_blocks_) {
      return BadField("block", absl::StrCat("0 .. ", num_blocks_ - 1), absl::StrCat(block));
    }
  }
  if (copy.source() == copy.destination()) {
    return BadField("destination", "another block than the source",
                    absl::StrCat(copy.destination()));
  }
  BlockUse& use = block_uses_[copy.destination()];
  if (use.copied_in == first_stamp_) {
    return BadField("destination", "each block once",
                    absl::StrCat("block ", copy.destination(), " twice"));
  }
  use.copied_in = first_stamp_;
  // Who writes a block is the only one to name it (UseBlock).
  const bool written =
      use.written_by >= first_stamp_ && use.written_by < first_stamp_ + step.chunks_size();
  if (!written) {
    return BadField("destination", "a block that a chunk of the step writes",
                    absl::StrCat("block ", copy.destination()));
  }
  return absl::OkStatus();
}

}  // namespace tessera::worker
