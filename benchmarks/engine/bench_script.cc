#include "benchmarks/engine/bench_script.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/pipeline_fill.h"

namespace tessera::worker {
namespace {

// Spread over the vocabulary; what the tokens are does not change what they cost.
int32_t PromptToken(const v1::ShardPlan& plan, size_t stream, int position) {
  const int32_t vocab_size = plan.ranks(plan.ranks_size() - 1).vocab().end();
  const size_t place = static_cast<size_t>(position) * 7919 + stream * 104729;
  return static_cast<int32_t>(place % vocab_size);
}

v1::SamplingParams Greedy() {
  v1::SamplingParams params;
  params.set_top_p(1);
  params.set_num_logprobs(-1);
  return params;
}

}  // namespace

BenchScript::BenchScript(const v1::ShardPlan& plan, std::vector<BenchRun> runs,
                         const BenchOptions& options)
    : plan_(plan),
      options_(options),
      groups_(options.steps_in_flight),
      in_flight_(groups_) {
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].depth > 0) passes_.push_back({.run = i, .fills = true});
    if (options.warm_up) passes_.push_back({.run = i});
    for (int k = 0; k < options.repetitions; ++k) passes_.push_back({.run = i, .timed = true});
    timings_.push_back({.run = std::move(runs[i]), .seconds = {}, .read_bytes_per_second = {}});
  }
}

void BenchScript::Begin(const Pass& pass) {
  BenchTiming& timing = timings_[pass.run];
  const BenchRun& run = timing.run;
  pass_ = pass;
  streams_.assign(run.streams, {});
  for (Stream& stream : streams_) {
    stream.position = pass.fills ? 0 : run.depth;
    stream.prompt_left = pass.fills ? run.depth : run.prompt;
    stream.decode_left = pass.fills ? 0 : run.decode;
  }
  if (pass.timed && run.prompt == 0 && options_.read_speed) {
    timing.read_bytes_per_second.push_back(options_.read_speed());
  }
  began_ = Clock::now();
}

bool BenchScript::GroupIdle(size_t group) const {
  for (size_t i = group; i < streams_.size(); i += groups_) {
    if (streams_[i].prompt_left + streams_[i].decode_left > 0) return false;
  }
  return true;
}

absl::StatusOr<std::optional<v1::StepPlan>> BenchScript::NextPlan(absl::Duration) {
  bool all_idle = true;
  for (size_t group = 0; group < groups_; ++group) {
    all_idle = all_idle && !in_flight_[group] && GroupIdle(group);
  }
  if (all_idle) {
    if (pass_ && pass_->timed) {
      timings_[pass_->run].seconds.push_back(
          std::chrono::duration<double>(Clock::now() - began_).count());
    }
    if (passes_.empty()) return absl::CancelledError("every run is done");
    Begin(passes_.front());
    passes_.pop_front();
  }
  for (size_t group = 0; group < groups_; ++group) {
    if (in_flight_[group] || GroupIdle(group)) continue;
    return in_flight_[group] = Compose(group);
  }
  return std::nullopt;
}

int BenchScript::PromptTokensPerStep() const {
  if (options_.prompt_tokens_per_step > 0) return options_.prompt_tokens_per_step;
  int64_t left = 0;
  for (const Stream& stream : streams_) left += stream.prompt_left;
  return coordinator::PromptTokensPerStep({.left = left,
                                           .stages = options_.steps_in_flight,
                                           .most = plan_.max_tokens_per_step()});
}

std::optional<v1::StepPlan> BenchScript::Compose(size_t group) {
  v1::StepPlan step;
  step.set_step_id(next_step_id_++);
  for (size_t i = group; i < streams_.size(); i += groups_) {
    if (streams_[i].prompt_left == 0) continue;
    AddChunk(i, std::min(streams_[i].prompt_left, PromptTokensPerStep()), step);
    return step;
  }
  for (size_t i = group; i < streams_.size(); i += groups_) {
    if (streams_[i].decode_left > 0) AddChunk(i, 1, step);
  }
  return step;
}

void BenchScript::AddChunk(size_t stream_index, int tokens, v1::StepPlan& step) const {
  const Stream& stream = streams_[stream_index];
  v1::SequenceChunk& chunk = *step.add_chunks();
  chunk.set_sequence_id(static_cast<int64_t>(stream_index));
  chunk.set_start_position(stream.position);
  for (int i = 0; i < tokens; ++i) {
    chunk.add_token_ids(stream.prompt_left > 0
                             ? PromptToken(plan_, stream_index, stream.position + i)
                             : stream.last_token);
  }
  // Stream s owns blocks s × blocks per stream and on.
  const int per_stream = plan_.num_kv_blocks() / static_cast<int>(streams_.size());
  const int blocks =
      (stream.position + tokens + plan_.kv_block_tokens() - 1) / plan_.kv_block_tokens();
  for (int i = 0; i < blocks; ++i) {
    chunk.add_block_table(static_cast<int>(stream_index) * per_stream + i);
  }
  if (stream.prompt_left <= tokens) *chunk.mutable_sampling() = Greedy();
}

absl::Status BenchScript::SendResult(v1::StepResult result) {
  for (std::optional<v1::StepPlan>& step : in_flight_) {
    if (!step || step->step_id() != result.step_id()) continue;
    int token = 0;
    for (const v1::SequenceChunk& chunk : step->chunks()) {
      Stream& stream = streams_[chunk.sequence_id()];
      stream.position += chunk.token_ids_size();
      if (stream.prompt_left > 0) {
        stream.prompt_left -= chunk.token_ids_size();
      } else {
        --stream.decode_left;
      }
      if (!chunk.has_sampling()) continue;
      if (token == result.tokens_size()) {
        return absl::InternalError(absl::StrCat("step ", result.step_id(), " lacks a token"));
      }
      stream.last_token = result.tokens(token++).token_id();
    }
    step.reset();
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("a result of unknown step ", result.step_id()));
}

}  // namespace tessera::worker
