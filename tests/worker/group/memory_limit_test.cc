// What does not fit is refused before it is loaded, with the numbers.
#include "worker/group/memory_limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace tessera::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::TempDir;

constexpr int64_t kMega = 1'000'000;

MemoryNeed TwoLikeThis(int64_t weights, int64_t kv) {
  return {.world_rank = 1,
          .weight_bytes = weights,
          .kv_bytes = kv,
          .local_ranks = 2,
          .local_weight_bytes = 2 * weights,
          .local_kv_bytes = 2 * kv};
}

TEST(CheckMemoryTest, WhatFitsExactlyFits) {
  const MemoryNeed need = TwoLikeThis(40 * kMega, 10 * kMega);
  EXPECT_TRUE(CheckMemory(need, {}).ok());
  EXPECT_TRUE(CheckMemory(need, {.address_space = 50 * kMega,
                                 .cgroup = 100 * kMega,
                                 .available = 80 * kMega})
                  .ok());
}

TEST(CheckMemoryTest, EachLimitIsNamedWithItsNumbers) {
  const MemoryNeed need = TwoLikeThis(40 * kMega, 10 * kMega);
  const absl::Status space = CheckMemory(need, {.address_space = 50 * kMega - 1});
  EXPECT_EQ(space.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(space.message(),
            "not loaded: the limit on address space (RLIMIT_AS) leaves 50.0 MB, and rank 1 needs "
            "40.0 MB of weights and 10.0 MB of KV cache; --kv-cache-memory makes the KV cache "
            "smaller");
  const absl::Status group = CheckMemory(need, {.cgroup = 70 * kMega});
  EXPECT_EQ(group.message(),
            "not loaded: the control group's memory limit leaves 70.0 MB, and the 2 ranks of this "
            "host need 80.0 MB of weights and 20.0 MB of KV cache; more ranks or hosts would each "
            "hold less");
  const absl::Status host = CheckMemory(need, {.available = 79 * kMega});
  EXPECT_EQ(host.message(),
            "not loaded: the host's available memory leaves 79.0 MB, and the 2 ranks of this host "
            "need 80.0 MB of weights; more ranks or hosts would each hold less");
}

class MemoryLimitsTest : public ::testing::Test {
 protected:
  MemoryLimitsTest() { std::filesystem::remove_all(root_); }
  ~MemoryLimitsTest() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  const std::string root_ = TempDir() + "/memory_limits/";
};

TEST_F(MemoryLimitsTest, NothingIsSaid) {
  EXPECT_FALSE(ReadMemoryLimits(root_).cgroup.has_value());
  EXPECT_FALSE(ReadMemoryLimits(root_).available.has_value());
}

TEST_F(MemoryLimitsTest, AvailableMemory) {
  Write("proc/meminfo", "MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:   77 kB\n");
  EXPECT_EQ(ReadMemoryLimits(root_).available, 77 * 1024);
}

TEST_F(MemoryLimitsTest, TheTightestGroupAboveCounts) {
  Write("proc/self/cgroup", "0::/pods/one/two\n");
  Write("sys/fs/cgroup/pods/one/two/memory.max", "max\n");
  Write("sys/fs/cgroup/pods/one/memory.max", "1000\n");
  Write("sys/fs/cgroup/pods/one/memory.current", "700\n");
  Write("sys/fs/cgroup/pods/one/memory.stat",
        "anon 500\nfile 200\ninactive_file 120\nactive_file 80\n");
  Write("sys/fs/cgroup/pods/memory.max", "5000\n");
  EXPECT_EQ(ReadMemoryLimits(root_).cgroup, 500);
}

TEST_F(MemoryLimitsTest, InAContainerTheMountIsTheGroup) {
  Write("proc/self/cgroup", "0::/kubepods/not/mounted/here\n");
  Write("sys/fs/cgroup/memory.max", "1000\n");
  Write("sys/fs/cgroup/memory.current", "2000\n");
  EXPECT_EQ(ReadMemoryLimits(root_).cgroup, 0);
}

TEST_F(MemoryLimitsTest, Version1) {
  Write("proc/self/cgroup", "9:cpu,cpuacct:/x\n5:memory:/job\n");
  Write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "3000\n");
  Write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1000\n");
  Write("sys/fs/cgroup/memory/job/memory.stat", "total_inactive_file 100\ntotal_active_file 0\n");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(ReadMemoryLimits(root_).cgroup, 2100);
}

TEST_F(MemoryLimitsTest, GarbageIsNoLimit) {
  Write("proc/self/cgroup", "nonsense\n0::\n::::\n0::/a/../..\n");
  Write("sys/fs/cgroup/memory.max", "many\n");
  EXPECT_FALSE(ReadMemoryLimits(root_).cgroup.has_value());
}

}  // namespace
}  // namespace tessera::worker
