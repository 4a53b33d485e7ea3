#include "worker/group/memory_limit.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "proto/base/status_macros.h"
#include "worker/group/process.h"
#include "worker/model/shard_slices.h"

namespace tessera::worker {
namespace {

// v1 says "no limit" with the largest multiple of the page size.
constexpr int64_t kNoLimit = int64_t{1} << 60;

std::optional<int64_t> NumberIn(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  int64_t number = 0;
  if (!(file >> word) || !absl::SimpleAtoi(word, &number)) return std::nullopt;  // "max"
  return number;
}

void TakeSmaller(std::optional<int64_t>& least, int64_t value) {
  least = std::min(least.value_or(value), value);
}

// Page cache counts as used, but gives way; shared memory is in `file` too and does not.
int64_t Reclaimable(const std::string& folder, const std::string& prefix) {
  const std::string stat = absl::StrCat(folder, "/memory.stat");
  return NumberBehind(stat, absl::StrCat(prefix, "inactive_file")) +
         NumberBehind(stat, absl::StrCat(prefix, "active_file"));
}

struct Names {
  const char* limit;
  const char* usage;
  const char* prefix;  // of memory.stat's keys that count the groups below too
};
constexpr Names kV2 = {"memory.max", "memory.current", ""};
constexpr Names kV1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_"};

// The least that a group or one above it leaves. `mount`: where the groups' folders are.
void AddGroup(const std::string& mount, std::string group, const Names& names,
              std::optional<int64_t>& left) {
  while (true) {
    const std::string folder = absl::StrCat(mount, group == "/" ? "" : group);
    const std::optional<int64_t> limit = NumberIn(absl::StrCat(folder, "/", names.limit));
    if (limit && *limit < kNoLimit) {
      const int64_t used = NumberIn(absl::StrCat(folder, "/", names.usage)).value_or(0);
      const int64_t kept = std::max<int64_t>(0, used - Reclaimable(folder, names.prefix));
      TakeSmaller(left, std::max<int64_t>(0, *limit - kept));
    }
    const size_t slash = group.rfind('/');
    if (group == "/" || slash == std::string::npos) return;
    group = slash == 0 ? "/" : group.substr(0, slash);
  }
}

// proc/self/cgroup: "0::/path" (v2) and "5:memory:/path" (v1). In a container the path may be the
// host's and not there; its own group is then the mount itself, which AddGroup comes to last.
std::optional<int64_t> CgroupLeft(const std::string& root) {
  std::optional<int64_t> left;
  std::ifstream groups(absl::StrCat(root, "proc/self/cgroup"));
  for (std::string line; std::getline(groups, line);) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3 || !absl::StartsWith(parts[2], "/")) continue;
    if (parts[0] == "0" && parts[1].empty()) {
      AddGroup(absl::StrCat(root, "sys/fs/cgroup"), parts[2], kV2, left);
    } else if (parts[1] == "memory") {
      AddGroup(absl::StrCat(root, "sys/fs/cgroup/memory"), parts[2], kV1, left);
    }
  }
  return left;
}

std::optional<int64_t> AddressSpaceLeft(const std::string& root) {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  const int64_t mapped = NumberBehind(absl::StrCat(root, "proc/self/status"), "VmSize") * 1024;
  return std::max<int64_t>(0, static_cast<int64_t>(limit.rlim_cur) - mapped);
}

std::string Megabytes(int64_t bytes) { return absl::StrFormat("%.1f MB", bytes / 1e6); }

absl::Status Check(const std::optional<int64_t>& left, int64_t weights, int64_t kv, int ranks,
                   int world_rank, absl::string_view limit) {
  if (!left || weights + kv <= *left) return absl::OkStatus();
  const std::string who = ranks == 1 ? absl::StrCat("rank ", world_rank)
                                     : absl::StrCat("the ", ranks, " ranks of this host");
  std::string needs = absl::StrCat(Megabytes(weights), " of weights");
  std::string advice = "more ranks or hosts would each hold less";
  if (kv > 0) {
    absl::StrAppend(&needs, " and ", Megabytes(kv), " of KV cache");
    if (weights <= *left) advice = "--kv-cache-memory makes the KV cache smaller";
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("not loaded: ", limit, " leaves ", Megabytes(*left), ", and ", who,
                   ranks == 1 ? " needs " : " need ", needs, "; ", advice));
}

}  // namespace

MemoryLimits ReadMemoryLimits(const std::string& root) {
  MemoryLimits limits;
  limits.address_space = AddressSpaceLeft(root);
  limits.cgroup = CgroupLeft(root);
  const int64_t kilobytes = NumberBehind(absl::StrCat(root, "proc/meminfo"), "MemAvailable");
  if (kilobytes > 0) limits.available = kilobytes * 1024;
  return limits;
}

MemoryNeed NeedOf(const v1::ModelDescription& model, const v1::ShardPlan& plan, int world_rank,
                  int local_ranks) {
  const auto weights = [&](const v1::RankShard& shard) { return ShardBytes(shard, model); };
  const auto kv = [&](const v1::RankShard& shard) {
    return shard.kv_bytes_per_token() * plan.kv_block_tokens() * plan.num_kv_blocks();
  };
  const v1::RankShard& own = plan.ranks(world_rank);
  MemoryNeed need{.world_rank = world_rank,
                  .weight_bytes = weights(own),
                  .kv_bytes = kv(own),
                  .local_ranks = local_ranks};
  if (local_ranks == plan.ranks_size()) {
    for (const v1::RankShard& shard : plan.ranks()) {
      need.local_weight_bytes += weights(shard);
      need.local_kv_bytes += kv(shard);
    }
  } else {
    need.local_weight_bytes = need.weight_bytes * local_ranks;
    need.local_kv_bytes = need.kv_bytes * local_ranks;
  }
  return need;
}

absl::Status CheckMemory(const MemoryNeed& need, const MemoryLimits& limits) {
  TESSERA_RETURN_IF_ERROR(Check(limits.address_space, need.weight_bytes, need.kv_bytes, 1,
                                need.world_rank, "the limit on address space (RLIMIT_AS)"));
  TESSERA_RETURN_IF_ERROR(Check(limits.cgroup, need.local_weight_bytes, need.local_kv_bytes,
                                need.local_ranks, need.world_rank,
                                "the control group's memory limit"));
  return Check(limits.available, need.local_weight_bytes, 0, need.local_ranks, need.world_rank,
               "the host's available memory");
}

}  // namespace tessera::worker
