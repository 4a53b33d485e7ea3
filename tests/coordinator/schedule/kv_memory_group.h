// A worker group in a test: a KV cache that really stores what the plans tell it to, block by
// block, under the model of fake_model.h.
//
//   KvMemoryGroup group(limits);
//   group.Send(*scheduler.Schedule(now));
//   const v1::StepResult result = group.ExecuteOldest();
//   auto emissions = scheduler.Commit(result);
//
// A slot of the cache holds a token and the hash of all tokens up to it, as real keys and values
// depend on all of them. Reading walks the block table and recomputes the hashes: a block that was
// never written, shared wrongly, not copied, or taken away while it was held is a test failure, as
// is every breach of StepPlan's rules.
#ifndef TESSERA_TESTS_COORDINATOR_SCHEDULE_KV_MEMORY_GROUP_H_
#define TESSERA_TESTS_COORDINATOR_SCHEDULE_KV_MEMORY_GROUP_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/scheduler.h"
#include "tessera/v1/cluster.pb.h"
#include "tests/coordinator/schedule/fake_model.h"

namespace tessera::testing {

// The chunks of a plan as a test reads them: "7:0+16" is 16 tokens of sequence 7 from position 0;
// with "!" after it a token is drawn, with "?" before that the last token is one still being drawn.
inline std::vector<std::string> ShowPlan(const v1::StepPlan& plan) {
  std::vector<std::string> chunks;
  for (const v1::SequenceChunk& chunk : plan.chunks()) {
    chunks.push_back(absl::StrCat(
        chunk.sequence_id(), ":", chunk.start_position(), "+", chunk.token_ids_size(),
        chunk.last_token_from_step() != 0 ? "?" : "", chunk.has_sampling() ? "!" : ""));
  }
  return chunks;
}

class KvMemoryGroup {
 public:
  explicit KvMemoryGroup(const coordinator::SchedulerLimits& limits)
      : limits_(limits),
        cache_(static_cast<size_t>(limits.num_blocks) * static_cast<size_t>(limits.block_tokens)) {}

  size_t in_flight() const { return plans_.size(); }

  void Send(const v1::StepPlan& plan) {
    plans_.push_back(plan);
    results_.emplace_back();
    ASSERT_LE(plans_.size(),
              static_cast<size_t>(limits_.max_steps_in_flight + (limits_.lookahead ? 1 : 0)));
    CheckPlan(plan);
    CheckInFlight();
  }

  // As if the group were lost with all it was doing and all it held.
  void Forget() {
    plans_.clear();
    results_.clear();
    cache_.assign(cache_.size(), Slot{});
  }

  v1::StepResult ExecuteOldest() {
    ExecuteUpTo(0);
    const v1::StepResult result = *results_.front();
    plans_.pop_front();
    results_.pop_front();
    return result;
  }

  // A group computes in order, but its results may arrive in any. Not with lookahead, where a step
  // can need the one before.
  v1::StepResult ExecuteNewest() {
    EXPECT_FALSE(limits_.lookahead);
    ExecuteUpTo(plans_.size() - 1);
    const v1::StepResult result = *results_.back();
    plans_.pop_back();
    results_.pop_back();
    return result;
  }

 private:
  struct Slot {
    int32_t token = -1;
    uint64_t hash = 0;  // of all tokens up to this one
  };

  void ExecuteUpTo(size_t last) {
    for (size_t i = 0; i <= last; ++i) {
      if (!results_[i]) results_[i] = Execute(plans_[i]);
    }
  }

  v1::StepResult Execute(const v1::StepPlan& plan) {
    v1::StepResult result;
    result.set_step_id(plan.step_id());
    for (const v1::BlockCopy& copy : plan.copies()) Copy(copy);
    for (const v1::SequenceChunk& chunk : plan.chunks()) ExecuteChunk(plan, chunk, &result);
    return result;
  }

  void Copy(const v1::BlockCopy& copy) {
    for (int i = 0; i < limits_.block_tokens; ++i) {
      cache_.at(static_cast<size_t>(copy.destination() * limits_.block_tokens + i)) =
          cache_.at(static_cast<size_t>(copy.source() * limits_.block_tokens + i));
    }
  }

  void ExecuteChunk(const v1::StepPlan& plan, const v1::SequenceChunk& chunk,
                    v1::StepResult* result) {
    std::vector<int32_t> tokens(chunk.token_ids().begin(), chunk.token_ids().end());
    v1::LogitsState draw = chunk.logits_state();
    if (chunk.last_token_from_step() != 0) {
      const auto drawn = drawn_.find(chunk.sequence_id());
      ASSERT_NE(drawn, drawn_.end());
      ASSERT_EQ(drawn->second.first, chunk.last_token_from_step());
      tokens.back() = drawn->second.second;
      if (Penalizes(chunk.sampling())) draw.add_output_ids(tokens.back());
    }
    uint64_t hash = ReadPrefix(chunk);
    v1::ChunkPromptLogprobs targets;
    for (int i = 0; i < chunk.token_ids_size(); ++i) {
      const int32_t token = tokens[static_cast<size_t>(i)];
      hash = MixToken(hash, token);
      At(chunk, chunk.start_position() + i) = {token, hash};
      if (chunk.prompt_logprob_ids_size() > 0 && chunk.prompt_logprob_ids(i) != -1) {
        v1::PromptLogprob* target = targets.add_prompt_logprobs();
        target->set_token_id(chunk.prompt_logprob_ids(i));
        target->set_logprob(FakeLogprob(hash, chunk.prompt_logprob_ids(i)));
        target->set_vocab_rank(1);
      }
    }
    if (chunk.prompt_logprob_ids_size() > 0) {
      targets.set_sequence_id(chunk.sequence_id());
      *result->add_prompt_logprobs() = targets;
    }
    if (chunk.return_logits()) AddLogits(chunk, result);
    if (!chunk.has_sampling()) return;
    v1::SampledToken* token = result->add_tokens();
    token->set_sequence_id(chunk.sequence_id());
    token->set_token_id(DrawToken(hash, chunk.sampling().seed(), draw));
    token->set_logprob(-1.0f);
    drawn_[chunk.sequence_id()] = {plan.step_id(), token->token_id()};
  }

  static bool Penalizes(const v1::SamplingParams& sampling) {
    return (sampling.repetition_penalty() != 0 && sampling.repetition_penalty() != 1) ||
           sampling.presence_penalty() != 0 || sampling.frequency_penalty() != 0;
  }

  // The hash of everything before the chunk, as attention reads it.
  uint64_t ReadPrefix(const v1::SequenceChunk& chunk) {
    uint64_t hash = 0;
    for (int position = 0; position < chunk.start_position(); ++position) {
      const Slot& slot = At(chunk, position);
      hash = MixToken(hash, slot.token);
      if (slot.token >= 0 && slot.hash == hash) continue;
      ADD_FAILURE() << "position " << position << " of sequence " << chunk.sequence_id()
                    << (slot.token < 0 ? " was never written" : " has another past");
      return hash;
    }
    return hash;
  }

  static void AddLogits(const v1::SequenceChunk& chunk, v1::StepResult* result) {
    v1::ChunkLogits* logits = result->add_logits();
    logits->set_sequence_id(chunk.sequence_id());
    logits->set_num_tokens(chunk.token_ids_size());
    logits->set_values(std::string(
        sizeof(float) * kFakeVocab * static_cast<size_t>(chunk.token_ids_size()), '\0'));
  }

  Slot& At(const v1::SequenceChunk& chunk, int position) {
    const int block = chunk.block_table(position / limits_.block_tokens);
    return cache_.at(
        static_cast<size_t>(block * limits_.block_tokens + position % limits_.block_tokens));
  }

  void CheckPlan(const v1::StepPlan& plan) {
    int tokens = 0;
    std::set<int64_t> sequences;
    std::map<int32_t, int> named;  // block → chunks that name it
    std::set<int32_t> written;
    ASSERT_GT(plan.chunks_size(), 0);
    ASSERT_LE(plan.chunks_size(), limits_.max_sequences_per_step);
    for (const v1::SequenceChunk& chunk : plan.chunks()) {
      ASSERT_TRUE(sequences.insert(chunk.sequence_id()).second) << "twice in a step";
      CheckChunk(chunk);
      tokens += chunk.token_ids_size();
      for (const int32_t block : chunk.block_table()) ++named[block];
      for (const int32_t block : Written(chunk)) written.insert(block);
    }
    ASSERT_LE(tokens, limits_.max_tokens_per_step);
    for (const int32_t block : written) {
      ASSERT_EQ(named[block], 1) << "block " << block << " is written and shared";
    }
    std::set<int32_t> copied;
    for (const v1::BlockCopy& copy : plan.copies()) {
      ASSERT_NE(copy.source(), copy.destination());
      ASSERT_TRUE(copied.insert(copy.destination()).second);
      ASSERT_EQ(written.count(copy.destination()), 1u) << "copied for nobody who writes";
    }
  }

  void CheckChunk(const v1::SequenceChunk& chunk) {
    const int count = chunk.token_ids_size();
    const int end = chunk.start_position() + count;
    ASSERT_GT(count, 0);
    ASSERT_LE(count, limits_.max_prefill_chunk);
    ASSERT_EQ(chunk.block_table_size(), (end + limits_.block_tokens - 1) / limits_.block_tokens);
    std::set<int32_t> blocks;
    for (const int32_t block : chunk.block_table()) {
      ASSERT_GE(block, 0);
      ASSERT_LT(block, limits_.num_blocks);
      ASSERT_TRUE(blocks.insert(block).second) << "block " << block << " twice in a table";
    }
    for (int i = 0; i < count; ++i) {
      const bool unknown = i == count - 1 && chunk.last_token_from_step() != 0;
      ASSERT_EQ(chunk.token_ids(i) == -1, unknown);
    }
    ASSERT_TRUE(chunk.prompt_logprob_ids_size() == 0 || chunk.prompt_logprob_ids_size() == count);
    ASSERT_TRUE(chunk.has_sampling() || !chunk.has_logits_state());
  }

  // Whoever is still written is nobody else's.
  void CheckInFlight() {
    std::map<int32_t, int64_t> writers;
    std::set<int64_t> sequences;
    for (const v1::StepPlan& plan : plans_) {
      for (const v1::SequenceChunk& chunk : plan.chunks()) {
        ASSERT_TRUE(sequences.insert(chunk.sequence_id()).second || limits_.lookahead)
            << "in two steps in flight";
        for (const int32_t block : Written(chunk)) {
          const auto writer = writers.emplace(block, chunk.sequence_id()).first;
          ASSERT_EQ(writer->second, chunk.sequence_id()) << "two write block " << block;
        }
      }
    }
    for (const v1::StepPlan& plan : plans_) {
      for (const v1::SequenceChunk& chunk : plan.chunks()) {
        for (const int32_t block : chunk.block_table()) {
          const auto writer = writers.find(block);
          ASSERT_TRUE(writer == writers.end() || writer->second == chunk.sequence_id())
              << "block " << block << " is still written by another";
        }
      }
    }
  }

  std::vector<int32_t> Written(const v1::SequenceChunk& chunk) const {
    return {chunk.block_table().begin() + chunk.start_position() / limits_.block_tokens,
            chunk.block_table().end()};
  }

  const coordinator::SchedulerLimits limits_;
  std::vector<Slot> cache_;  // (block, slot)
  std::deque<v1::StepPlan> plans_;
  std::deque<std::optional<v1::StepResult>> results_;     // of plans_, once computed
  std::map<int64_t, std::pair<int64_t, int32_t>> drawn_;  // sequence → its last step, token
};

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_COORDINATOR_SCHEDULE_KV_MEMORY_GROUP_H_
