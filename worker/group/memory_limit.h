// Whether a rank's share of the model fits this process and this host, asked before anything is
// loaded: a limit that is hit in the middle ends the process without a word.
//
//   weights + KV cache   against RLIMIT_AS and the cgroup's memory limit, which are hard
//   weights              against MemAvailable: the KV cache is filled only as far as it is used
//
// What the ranks of one host share (cgroup, MemAvailable) is held against what they need together.
//
//   TESSERA_RETURN_IF_ERROR(CheckMemory(need, ReadMemoryLimits("/")));
#ifndef TESSERA_WORKER_GROUP_MEMORY_LIMIT_H_
#define TESSERA_WORKER_GROUP_MEMORY_LIMIT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::worker {

// Bytes that are left; nullopt: no limit, or nobody says.
struct MemoryLimits {
  // What this process may map: RLIMIT_AS less what it has mapped.
  std::optional<int64_t> address_space = std::nullopt;
  // What its control group or one above leaves, v2 or v1.
  std::optional<int64_t> cgroup = std::nullopt;
  // What the host has: MemAvailable.
  std::optional<int64_t> available = std::nullopt;
};

// Reads proc/ and sys/fs/cgroup/ below `root` ("/" but for tests).
MemoryLimits ReadMemoryLimits(const std::string& root);

struct MemoryNeed {
  int world_rank = 0;
  int64_t weight_bytes = 0;
  int64_t kv_bytes = 0;
  int local_ranks = 1;  // this one included
  int64_t local_weight_bytes = 0;
  int64_t local_kv_bytes = 0;
};

// The need of the rank `world_rank` of the plan, and of the `local_ranks` ranks of its host: of all
// of them if that is the whole group, else as if they were all like this one.
MemoryNeed NeedOf(const v1::ModelDescription& model, const v1::ShardPlan& plan, int world_rank,
                  int local_ranks);

// RESOURCE_EXHAUSTED naming the limit, what it leaves and what is needed.
absl::Status CheckMemory(const MemoryNeed& need, const MemoryLimits& limits);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_GROUP_MEMORY_LIMIT_H_
