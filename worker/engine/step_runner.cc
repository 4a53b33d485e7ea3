#include "worker/engine/step_runner.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "proto/base/annotate.h"
#include "proto/base/status_macros.h"
#include "worker/comm/message_tags.h"
#include "worker/engine/logit_batch.h"

namespace tessera::worker {
namespace {

std::vector<v1::Range> VocabOfStage(const v1::ShardPlan& plan, int world_rank) {
  const int tp = plan.tensor_parallel_size();
  const int first = world_rank / tp * tp;
  std::vector<v1::Range> vocab;
  for (int i = first; i < first + tp; ++i) vocab.push_back(plan.ranks(i).vocab());
  return vocab;
}

}  // namespace

StepRunner::StepRunner(const Setup& setup, std::unique_ptr<kernels::Device> device)
    : tp_(setup.tp),
      is_first_stage_(setup.plan->ranks(setup.world_rank).pp_stage() == 0),
      vocab_(VocabOfStage(*setup.plan, setup.world_rank)),
      sampler_(setup.tp, vocab_, Sampler::kDefaultCandidates),
      scorer_(setup.tp, vocab_),
      device_(std::move(device)) {}

absl::StatusOr<std::unique_ptr<StepRunner>> StepRunner::Create(
    const Setup& setup, std::unique_ptr<kernels::Device> device) {
  std::unique_ptr<StepRunner> runner(new StepRunner(setup, std::move(device)));
  const LinkSetup links{.device = runner->device_.get(),
                        .world_rank = setup.world_rank,
                        .tp = setup.tp,
                        .pp = setup.pp,
                        .deadline = setup.deadline};
  if (setup.device_links) {
    TESSERA_ASSIGN_OR_RETURN(runner->links_, MakeDeviceLinks(links));
  } else {
    runner->links_ = MakeHostLinks(links);
  }
  // A group of which one rank has other links or another device has them on none.
  runner->async_scheduling_ = setup.plan->pipeline_parallel_size() == 1 &&
                              runner->links_.tp->on_device() &&
                              runner->device_->sampling_queue() != nullptr;
  if (runner->async_scheduling_) {
    TESSERA_RETURN_IF_ERROR(runner->ReserveSampling(
        std::min(kMaxAsyncSequences, setup.plan->max_sequences_per_step())));
  }
  TESSERA_ASSIGN_OR_RETURN(runner->decoder_, Decoder::Create({.file = setup.file,
                                                              .plan = setup.plan,
                                                              .world_rank = setup.world_rank,
                                                              .device = runner->device_.get(),
                                                              .tp = runner->links_.tp.get(),
                                                              .progress = setup.progress}));
  // Last: it keeps a mark per KV block, of which there was memory for as many as the plan says.
  runner->checker_ = std::make_unique<StepChecker>(
      *setup.plan, setup.file->description().architecture().vocab_size());
  return runner;
}

void StepRunner::Flatten(const v1::StepPlan& step, TokenBatch& batch) {
  batch.token_ids.clear();
  batch.positions.clear();
  batch.sequences.clear();
  for (const v1::SequenceChunk& chunk : step.chunks()) {
    batch.sequences.push_back({.first_token = static_cast<int32_t>(batch.size()),
                               .num_tokens = chunk.token_ids_size(),
                               .start_position = chunk.start_position(),
                               .block_table = chunk.block_table().data(),
                               .num_blocks = chunk.block_table_size()});
    for (int i = 0; i < chunk.token_ids_size(); ++i) {
      batch.token_ids.push_back(chunk.token_ids(i));
      batch.positions.push_back(chunk.start_position() + i);
    }
  }
}

StepRunner::SamplingRows StepRunner::SamplingRowsOf(const v1::StepPlan& step) {
  SamplingRows sampling;
  int64_t end = 0;  // of the chunk, in the flattened batch
  for (const v1::SequenceChunk& chunk : step.chunks()) {
    end += chunk.token_ids_size();
    if (!chunk.has_sampling()) continue;
    sampling.requests.push_back(
        {.params = &chunk.sampling(),
         .sequence_id = chunk.sequence_id(),
         .position = int64_t{chunk.start_position()} + chunk.token_ids_size(),
         .logits_state = &chunk.logits_state()});
    sampling.rows.push_back(end - 1);
  }
  return sampling;
}

absl::Status StepRunner::Begin(const v1::StepPlan& step) {
  for (const v1::BlockCopy& copy : step.copies()) {
    decoder_->CopyBlock(copy.source(), copy.destination());
  }
  Flatten(step, batch_);
  return decoder_->Begin(batch_);
}

absl::Status StepRunner::Forward(const v1::StepPlan& step, absl::Span<const std::byte> incoming,
                                 absl::FunctionRef<absl::Status()> between) {
  newest_tokens_ = {};
  TESSERA_RETURN_IF_ERROR(Begin(step));
  if (is_first_stage_) {
    TESSERA_RETURN_IF_ERROR(decoder_->Embed());
  } else if (links_.stage != nullptr) {
    TESSERA_RETURN_IF_ERROR(decoder_->ReceiveHidden(*links_.stage));
  } else {
    const size_t expected = batch_.size() * decoder_->hidden_size() * sizeof(float);
    if (incoming.size() != expected) {
      return absl::InternalError(absl::StrCat("step ", step.step_id(), ": expected ", expected,
                                              " bytes of activations for ", batch_.size(),
                                              " tokens, got ", incoming.size()));
    }
    TESSERA_RETURN_IF_ERROR(decoder_->WriteHidden(incoming));
  }
  return decoder_->RunLayers(between);
}

absl::StatusOr<v1::StepResult> StepRunner::Finish(const v1::StepPlan& step, Between between) {
  v1::StepResult result;
  result.set_step_id(step.step_id());
  absl::Status status = SampleTokens(step, between, result);
  if (status.ok()) status = ScorePrompt(step, between, result);
  if (status.ok()) status = CollectLogits(step, between, result);
  if (!status.ok()) return Annotate(status, absl::StrCat("step ", step.step_id()));
  return result;
}

absl::Status StepRunner::InHeadGroups(
    absl::Span<const int64_t> rows, Between between,
    absl::FunctionRef<absl::Status(size_t first, absl::Span<const int64_t> group)> use) {
  for (size_t first = 0; first < rows.size(); first += Decoder::kMaxLogitRows) {
    TESSERA_RETURN_IF_ERROR(use(first, rows.subspan(first, Decoder::kMaxLogitRows)));
    TESSERA_RETURN_IF_ERROR(between());
  }
  return absl::OkStatus();
}

absl::Status StepRunner::SampleTokens(const v1::StepPlan& step, Between between,
                                      v1::StepResult& result) {
  const SamplingRows sampling = SamplingRowsOf(step);
  const auto requests = absl::MakeConstSpan(sampling.requests);
  return InHeadGroups(sampling.rows, between, [&](size_t first, absl::Span<const int64_t> group) {
    decoder_->ComputeLogits(group);
    DeviceLogits logits(*device_, *device_, {.logits = decoder_->device_logits(),
                                        .rows = static_cast<int64_t>(group.size()),
                                        .vocab = decoder_->local_vocab_size(),
                                        .first_id = vocab_[tp_->rank()].begin()});
    TESSERA_ASSIGN_OR_RETURN(std::vector<v1::SampledToken> tokens,
                             sampler_.Sample(requests.subspan(first, group.size()), logits));
    for (v1::SampledToken& token : tokens) *result.add_tokens() = std::move(token);
    return absl::OkStatus();
  });
}

absl::Status StepRunner::ScorePrompt(const v1::StepPlan& step, Between between,
                                     v1::StepResult& result) {
  std::vector<LogprobRequest> wanted;
  std::vector<int64_t> rows;
  std::vector<int> chunk_of;  // index in result.prompt_logprobs
  int64_t begin = 0;          // of the chunk, in the flattened batch
  for (const v1::SequenceChunk& chunk : step.chunks()) {
    if (chunk.prompt_logprob_ids_size() > 0)
      result.add_prompt_logprobs()->set_sequence_id(chunk.sequence_id());
    for (int i = 0; i < chunk.prompt_logprob_ids_size(); ++i) {
      if (chunk.prompt_logprob_ids(i) == -1) continue;
      wanted.push_back({.row = rows.size() % Decoder::kMaxLogitRows,
                        .token_id = chunk.prompt_logprob_ids(i),
                        .num_logprobs = chunk.num_prompt_logprobs(),
                        .sequence_id = chunk.sequence_id(),
                        .position = int64_t{chunk.start_position()} + i + 1});
      rows.push_back(begin + i);
      chunk_of.push_back(result.prompt_logprobs_size() - 1);
    }
    begin += chunk.token_ids_size();
  }
  return InHeadGroups(rows, between, [&](size_t first, absl::Span<const int64_t> group) {
    TESSERA_ASSIGN_OR_RETURN(absl::Span<const float> logits, decoder_->Logits(group));
    TESSERA_ASSIGN_OR_RETURN(
        std::vector<v1::PromptLogprob> scores,
        scorer_.Score(absl::MakeConstSpan(wanted).subspan(first, group.size()), logits));
    for (size_t i = 0; i < group.size(); ++i) {
      *result.mutable_prompt_logprobs(chunk_of[first + i])->add_prompt_logprobs() =
          std::move(scores[i]);
    }
    return absl::OkStatus();
  });
}

absl::Status StepRunner::CollectLogits(const v1::StepPlan& step, Between between,
                                       v1::StepResult& result) {
  int64_t chunk_begin = 0;
  for (const v1::SequenceChunk& chunk : step.chunks()) {
    const int64_t chunk_end = chunk_begin + chunk.token_ids_size();
    if (chunk.return_logits()) {
      v1::ChunkLogits& out = *result.add_logits();
      out.set_sequence_id(chunk.sequence_id());
      out.set_num_tokens(chunk.token_ids_size());
      std::vector<int64_t> rows(chunk.token_ids_size());
      std::iota(rows.begin(), rows.end(), chunk_begin);
      TESSERA_RETURN_IF_ERROR(InHeadGroups(
          rows, between, [&](size_t /*first*/, absl::Span<const int64_t> group) {
            return AppendLogits(group, out);
          }));
    }
    chunk_begin = chunk_end;
  }
  return absl::OkStatus();
}

absl::Status StepRunner::AppendLogits(absl::Span<const int64_t> rows, v1::ChunkLogits& out) {
  TESSERA_ASSIGN_OR_RETURN(absl::Span<const float> own, decoder_->Logits(rows));
  if (tp_->rank() != 0) {
    const auto* bytes = reinterpret_cast<const std::byte*>(own.data());
    return tp_->Send(0, kLogitsTag, Bytes(bytes, bytes + own.size() * sizeof(float)));
  }
  const size_t row_bytes = vocab_.back().end() * sizeof(float);
  const size_t before = out.values().size();
  std::string& values = *out.mutable_values();
  values.resize(before + rows.size() * row_bytes);
  for (int tp_rank = 0; tp_rank < tp_->size(); ++tp_rank) {
    const size_t width = (vocab_[tp_rank].end() - vocab_[tp_rank].begin()) * sizeof(float);
    Bytes received;
    const char* in = reinterpret_cast<const char*>(own.data());
    if (tp_rank != 0) {
      TESSERA_ASSIGN_OR_RETURN(received, tp_->Receive(tp_rank, kLogitsTag));
      if (received.size() != rows.size() * width) {
        return absl::InternalError(absl::StrCat("logits of tp_rank ", tp_rank, ": expected ",
                                                rows.size() * width, " bytes, got ",
                                                received.size()));
      }
      in = reinterpret_cast<const char*>(received.data());
    }
    char* column = values.data() + before + vocab_[tp_rank].begin() * sizeof(float);
    for (size_t i = 0; i < rows.size(); ++i) {
      std::memcpy(column + i * row_bytes, in + i * width, width);
    }
  }
  return absl::OkStatus();
}

}  // namespace tessera::worker
