#include "coordinator/plan/kv_budget.h"

#include <algorithm>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/model/limits.h"
#include "proto/wire/status_builders.h"

namespace tessera::coordinator {
namespace {

constexpr int kShortestModelLen = 2;  // one token of prompt, one generated

int64_t LargestBlockBytes(const v1::ShardPlan& plan, int block_tokens) {
  int64_t largest = 0;
  for (const v1::RankShard& shard : plan.ranks()) {
    largest = std::max(largest, shard.kv_bytes_per_token() * block_tokens);
  }
  return largest;
}

// Tokens that `bytes` on each rank hold.
int64_t TokensHeld(int64_t bytes, int64_t block_bytes, int block_tokens) {
  return std::min<int64_t>(bytes / block_bytes, model::MaxKvBlocks(block_tokens)) * block_tokens;
}

// Blocks that every rank's GPU holds beside its weights.
absl::StatusOr<int64_t> BlocksOnGpus(const Layout& layout, const v1::ShardPlan& plan) {
  int64_t blocks = model::MaxKvBlocks(layout.kv_block_tokens);
  for (const v1::RankShard& shard : plan.ranks()) {
    const int64_t free = layout.free_memory_bytes[shard.world_rank()];
    const auto usable =
        static_cast<int64_t>(static_cast<double>(free) * layout.gpu_memory_utilization);
    const int64_t block_bytes = shard.kv_bytes_per_token() * layout.kv_block_tokens;
    const int64_t left = usable - shard.weight_bytes();
    if (left < block_bytes) {
      return wire::FieldError(
          "--gpu-memory-utilization",
          absl::StrCat("is ", layout.gpu_memory_utilization, ", of ", free / 1'000'000,
                       " MB free on the GPU of rank ", shard.world_rank(), ", which needs ",
                       (shard.weight_bytes() + block_bytes) / 1'000'000,
                       " MB for its weights and one KV block; expected more of it, or more ranks"));
    }
    blocks = std::min(blocks, left / std::max<int64_t>(block_bytes, 1));
  }
  return blocks;
}

absl::Status ModelLenError(int asked, int64_t longest, const std::string& why) {
  return wire::FieldError("--max-model-len",
                          absl::StrCat("is ", asked, "; expected ", kShortestModelLen, " .. ",
                                       longest, " (", why, "), or 0 for the model's own"));
}

}  // namespace

absl::Status PlanKvCache(const v1::Architecture& arch, const Layout& layout, v1::ShardPlan* plan) {
  const int block_tokens = layout.kv_block_tokens;
  const int64_t block_bytes = LargestBlockBytes(*plan, block_tokens);
  const int64_t budget = layout.kv_bytes_per_rank;
  if (budget < 0 || (budget > 0 && budget < block_bytes)) {
    return wire::FieldError(
        "--kv-cache-memory",
        absl::StrCat("is ", budget, "; expected at least ", block_bytes, " (one block of ",
                     block_tokens, " tokens on the rank that needs most), or 0 for a default"));
  }
  const int asked = layout.max_model_len;
  const int64_t longest = std::min(arch.max_positions(), model::kMaxModelLen);
  if (asked != 0 && (asked < kShortestModelLen || asked > longest)) {
    return ModelLenError(asked, longest, "the positions the model was made for");
  }
  int64_t on_gpus = 0;
  if (budget == 0 && !layout.free_memory_bytes.empty()) {
    TESSERA_ASSIGN_OR_RETURN(on_gpus, BlocksOnGpus(layout, *plan));
  }
  const int64_t held =
      on_gpus > 0 ? on_gpus * block_tokens
                  : TokensHeld(budget > 0 ? budget : kMaxDefaultKvBytes, block_bytes, block_tokens);
  if (budget == 0 && on_gpus == 0 && std::max(asked, kShortestModelLen) > held) {
    return ModelLenError(asked, held,
                         absl::StrCat(kMaxDefaultKvBytes / 1'000'000,
                                      " MB of KV cache on a rank; "
                                      "--kv-cache-memory allows more"));
  }
  const int64_t model_len = asked > 0 ? asked : std::min(longest, held);

  const int64_t sequence_blocks = (model_len + block_tokens - 1) / block_tokens;
  const int64_t useful_blocks = sequence_blocks * layout.max_sequences_per_step;
  const int64_t default_blocks =
      std::max(sequence_blocks, std::min(useful_blocks, kDefaultKvBytes / block_bytes));
  const int64_t blocks = budget > 0    ? budget / block_bytes
                         : on_gpus > 0 ? on_gpus
                                       : default_blocks;
  plan->set_kv_block_tokens(block_tokens);
  plan->set_max_model_len(static_cast<int32_t>(model_len));
  plan->set_num_kv_blocks(
      static_cast<int32_t>(std::min<int64_t>(blocks, model::MaxKvBlocks(block_tokens))));
  return absl::OkStatus();
}

}  // namespace tessera::coordinator
