// A worker group in a test: a KV cache that really stores what the plans tell it to, and a "model"
// whose next token is a hash of every token that it reads back through the block table. A sequence
// whose blocks were lost, shared or reordered gets other tokens than ReferenceTokens says.
//
//   FakeGroup group(limits);
//   group.Send(*scheduler.Schedule(now));
//   auto emissions = scheduler.Commit(group.ExecuteOldest());
//
// Every plan is checked as it is sent: budgets, block tables, nothing shared with another sequence
// of this plan or of one in flight. Violations are test failures.
#ifndef TESSERA_TESTS_COORDINATOR_SCHEDULE_FAKE_GROUP_H_
#define TESSERA_TESTS_COORDINATOR_SCHEDULE_FAKE_GROUP_H_

#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "coordinator/schedule/scheduler.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::testing {

inline constexpr int kFakeVocab = 97;

inline uint64_t MixToken(uint64_t hash, int32_t token) {
  hash ^= static_cast<uint64_t>(token) + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdu;
}

inline int32_t DrawToken(uint64_t hash, uint64_t seed) {
  return static_cast<int32_t>((MixToken(hash, static_cast<int32_t>(seed)) >> 32) % kFakeVocab);
}

// What the fake model answers to `request`, computed without any scheduler.
inline std::vector<int32_t> ReferenceTokens(const coordinator::ScheduledRequest& request,
                                            int max_len) {
  uint64_t hash = 0;
  for (const int32_t token : request.prompt_ids) hash = MixToken(hash, token);
  std::vector<int32_t> output;
  while (static_cast<int>(output.size()) < request.max_tokens &&
         static_cast<int>(request.prompt_ids.size() + output.size()) < max_len) {
    const int32_t token = DrawToken(hash, request.sampling.seed());
    output.push_back(token);
    hash = MixToken(hash, token);
    for (const int32_t stop : request.stop_ids) {
      if (token == stop) return output;
    }
  }
  return output;
}

// The chunks of a plan as a test reads them: "7:0+16" is 16 tokens of sequence 7 from position 0;
// with "!" after it a token is drawn.
inline std::vector<std::string> ShowPlan(const v1::StepPlan& plan) {
  std::vector<std::string> chunks;
  for (const v1::SequenceChunk& chunk : plan.chunks()) {
    chunks.push_back(absl::StrCat(chunk.sequence_id(), ":", chunk.start_position(), "+",
                                  chunk.token_ids_size(), chunk.has_sampling() ? "!" : ""));
  }
  return chunks;
}

class FakeGroup {
 public:
  explicit FakeGroup(const coordinator::SchedulerLimits& limits)
      : limits_(limits),
        cache_(static_cast<size_t>(limits.num_blocks) * static_cast<size_t>(limits.block_tokens),
               -1) {}

  size_t in_flight() const { return plans_.size(); }

  void Send(const v1::StepPlan& plan) {
    plans_.push_back(plan);
    CheckOldestToNewest();
  }

  // As if the group were lost with all it was doing.
  void Forget() { plans_.clear(); }

  v1::StepResult ExecuteOldest() {
    const v1::StepPlan plan = plans_.front();
    plans_.pop_front();
    return Execute(plan);
  }

  v1::StepResult ExecuteNewest() {
    const v1::StepPlan plan = plans_.back();
    plans_.pop_back();
    return Execute(plan);
  }

 private:
  v1::StepResult Execute(const v1::StepPlan& plan) {
    v1::StepResult result;
    result.set_step_id(plan.step_id());
    for (const v1::SequenceChunk& chunk : plan.chunks()) {
      for (int i = 0; i < chunk.token_ids_size(); ++i) {
        Slot(chunk, chunk.start_position() + i) = chunk.token_ids(i);
      }
      if (chunk.return_logits()) {
        v1::ChunkLogits* logits = result.add_logits();
        logits->set_sequence_id(chunk.sequence_id());
        logits->set_num_tokens(chunk.token_ids_size());
        logits->set_values(std::string(
            sizeof(float) * kFakeVocab * static_cast<size_t>(chunk.token_ids_size()), '\0'));
      }
      if (!chunk.has_sampling()) continue;
      uint64_t hash = 0;
      const int end = chunk.start_position() + chunk.token_ids_size();
      for (int position = 0; position < end; ++position)
        hash = MixToken(hash, Slot(chunk, position));
      v1::SampledToken* token = result.add_tokens();
      token->set_sequence_id(chunk.sequence_id());
      token->set_token_id(DrawToken(hash, chunk.sampling().seed()));
      token->set_logprob(-1.0f);
    }
    return result;
  }

  int32_t& Slot(const v1::SequenceChunk& chunk, int position) {
    const int block = chunk.block_table(position / limits_.block_tokens);
    return cache_.at(
        static_cast<size_t>(block * limits_.block_tokens + position % limits_.block_tokens));
  }

  void CheckOldestToNewest() {
    ASSERT_LE(plans_.size(), static_cast<size_t>(limits_.max_steps_in_flight));
    std::set<int64_t> sequences;
    std::set<int32_t> blocks;
    for (const v1::StepPlan& plan : plans_) {
      int tokens = 0;
      ASSERT_GT(plan.chunks_size(), 0);
      ASSERT_LE(plan.chunks_size(), limits_.max_sequences_per_step);
      for (const v1::SequenceChunk& chunk : plan.chunks()) {
        const int count = chunk.token_ids_size();
        const int end = chunk.start_position() + count;
        tokens += count;
        ASSERT_GT(count, 0);
        ASSERT_LE(count, limits_.max_prefill_chunk);
        ASSERT_EQ(chunk.block_table_size(),
                  (end + limits_.block_tokens - 1) / limits_.block_tokens);
        ASSERT_TRUE(sequences.insert(chunk.sequence_id()).second) << "in two chunks in flight";
        for (const int32_t block : chunk.block_table()) {
          ASSERT_GE(block, 0);
          ASSERT_LT(block, limits_.num_blocks);
          ASSERT_TRUE(blocks.insert(block).second) << "block " << block << " is shared";
        }
      }
      ASSERT_LE(tokens, limits_.max_tokens_per_step);
    }
  }

  const coordinator::SchedulerLimits limits_;
  std::vector<int32_t> cache_;  // (block, slot)
  std::deque<v1::StepPlan> plans_;
};

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_COORDINATOR_SCHEDULE_FAKE_GROUP_H_
