// The command line and the health service of a rank.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/cpu/instruction_sets.h"
#include "proto/flags/worker_flags.h"
#include "tests/worker/group/health_client.h"
#include "worker/engine/core_shares.h"
#include "worker/group/health_server.h"
#include "worker/group/worker_options.h"

namespace tessera::worker {
namespace {

using ::testing::HasSubstr;

class WorkerOptionsTest : public ::testing::Test {
 protected:
  // Parses, and keeps what was printed to stderr.
  ParsedCommandLine Parse(std::vector<const char*> args) {
    args.insert(args.begin(), "tessera-worker");
    ::testing::internal::CaptureStderr();
    auto parsed = ParseCommandLine(static_cast<int>(args.size()), args.data());
    errors_ = ::testing::internal::GetCapturedStderr();
    return parsed;
  }
  void TearDown() override {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                             "OMPI_COMM_WORLD_LOCAL_SIZE", "TESSERA_MODEL"}) {
      unsetenv(name);
    }
  }
  std::string errors_;
};

TEST_F(WorkerOptionsTest, OneRankAlone) {
  const auto parsed = Parse({"--model", "m", "--coordinator", "h:1"});
  EXPECT_FALSE(parsed.exit_code);
  EXPECT_EQ(parsed.options.communicator, CommunicatorKind::kNull);
  EXPECT_EQ(parsed.options.threads, 0);
  EXPECT_EQ(parsed.options.host, "127.0.0.1");
  EXPECT_EQ(parsed.options.health_port, 0);
}

TEST_F(WorkerOptionsTest, LesserWaysCanBeAskedFor) {
  const auto usual = Parse({"--model", "m", "--coordinator", "h:1"});
  EXPECT_TRUE(usual.options.shared_memory);
  EXPECT_EQ(usual.options.instruction_set, "auto");
  const auto lesser = Parse({"--model", "m", "--coordinator", "h:1", "--no-shared-memory",
                             "--instruction-set", "scalar"});
  EXPECT_FALSE(lesser.exit_code) << errors_;
  EXPECT_FALSE(lesser.options.shared_memory);
  EXPECT_EQ(lesser.options.instruction_set, "scalar");
}

TEST_F(WorkerOptionsTest, DevicesOfAllKinds) {
  const auto usual = Parse({"--model", "m", "--coordinator", "h:1"});
  EXPECT_EQ(usual.options.device, "auto");
  EXPECT_FALSE(usual.options.deterministic);
  const auto gpu = Parse({"--model", "m", "--coordinator", "h:1", "--device", "cuda", "--comm",
                          "mpi", "--deterministic"});
  EXPECT_FALSE(gpu.exit_code) << errors_;
  EXPECT_EQ(gpu.options.device, "cuda");
  EXPECT_EQ(gpu.options.comm, LinkPreference::kMpi);
  EXPECT_TRUE(gpu.options.deterministic);
}

TEST_F(WorkerOptionsTest, UnderMpirun) {
  setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
  setenv("OMPI_COMM_WORLD_LOCAL_RANK", "3", 1);
  setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "1000000", 1);
  setenv("TESSERA_MODEL", "from the environment", 1);
  const auto parsed = Parse({"--coordinator", "h:1", "--health-port", "9000"});
  EXPECT_FALSE(parsed.exit_code) << errors_;
  EXPECT_EQ(parsed.options.model, "from the environment");
  EXPECT_EQ(parsed.options.communicator, CommunicatorKind::kMpi);
  EXPECT_EQ(parsed.options.health_port, 9003);
}

// The choices that the flags name beside what this program understands.
TEST(WorkerFlagsTest, NameWhatThereIs) {
  for (const absl::string_view name : flags::kLoadFormats) EXPECT_TRUE(ParseLoadFormat(name).ok());
  for (const absl::string_view name : flags::kQuantizations) {
    EXPECT_TRUE(ParseQuantization(name).ok());
  }
  for (const absl::string_view name : flags::kComms) EXPECT_TRUE(ParseLinkPreference(name).ok());
  const auto unknown = kernels::cpu::ChooseTable("mmx");
  EXPECT_THAT(std::string(unknown.status().message()),
              ::testing::EndsWith("expected one of: " + absl::StrJoin(flags::kInstructionSets, ", ")));
}

TEST(CoreSharesTest, StagesOfOneHostTakeTurnsOnAllCores) {
  const CoreShares one_host = {.ranks = 4, .ranks_on_host = 4, .cores = 8};
  EXPECT_TRUE(StagesAreTimeSliced(one_host));
  EXPECT_EQ(ThreadsOf(one_host, 4), 2);  // one stage
  EXPECT_EQ(ThreadsOf(one_host, 2), 4);
  EXPECT_EQ(ThreadsOf(one_host, 1), 8);

  // Also where they win no threads by it.
  const CoreShares few_cores = {.ranks = 4, .ranks_on_host = 4, .cores = 3};
  EXPECT_TRUE(StagesAreTimeSliced(few_cores));
  EXPECT_EQ(ThreadsOf(few_cores, 2), 1);
  EXPECT_EQ(ThreadsOf(one_host, 0), 8);  // a plan that arrived damaged

  const CoreShares two_hosts = {.ranks = 4, .ranks_on_host = 2, .cores = 8};
  EXPECT_FALSE(StagesAreTimeSliced(two_hosts));
  EXPECT_EQ(ThreadsOf(two_hosts, 2), 4);
  EXPECT_EQ(ThreadsOf({.ranks = 4, .ranks_on_host = 3, .cores = 2}, 2), 1);

  const CoreShares told = {.ranks = 4, .ranks_on_host = 4, .cores = 8, .threads_per_rank = 3};
  EXPECT_FALSE(StagesAreTimeSliced(told));
  EXPECT_EQ(ThreadsOf(told, 1), 3);
}

TEST(CoreSharesTest, CoresAreSharedByMoreThreadsThanThereAre) {
  const CoreShares one_host = {.ranks = 4, .ranks_on_host = 4, .cores = 8};
  EXPECT_FALSE(CoresAreShared(one_host, 4));  // one stage
  EXPECT_TRUE(CoresAreShared(one_host, 2));   // stages that take turns
  EXPECT_TRUE(CoresAreShared({.ranks = 4, .ranks_on_host = 4, .cores = 3}, 2));
  EXPECT_FALSE(CoresAreShared({.ranks = 4, .ranks_on_host = 2, .cores = 8}, 2));
  EXPECT_TRUE(
      CoresAreShared({.ranks = 4, .ranks_on_host = 4, .cores = 8, .threads_per_rank = 3}, 4));
}

TEST_F(WorkerOptionsTest, MistakesAreNamed) {
  struct Mistake {
    std::vector<const char*> args;
    const char* complaint;
  };
  const std::vector<Mistake> mistakes = {
      {{"--modle", "m"}, "unknown flag --modle"},
      {{"--coordinator", "h:1"}, "--model is missing"},
      {{"--model", "m"}, "--coordinator is ''"},
      {{"--model", "m", "--coordinator", "h"}, "expected HOST:PORT"},
      {{"--model", "m", "--coordinator", "h:0"}, "1 .. 65535"},
      {{"--model", "m", "--coordinator", "h:70000"}, "1 .. 65535"},
      {{"--model", "m", "--coordinator", "h:1", "--threads-per-rank", "-1"}, "0 .. 1024"},
      {{"--model", "m", "--coordinator", "h:1", "--load-format", "onnx"}, "--load-format"},
      {{"--model", "m", "--coordinator", "h:1", "--quantization", "fp9"}, "--quantization"},
      {{"--model", "m", "--coordinator", "h:1", "--communicator", "x"}, "--communicator"},
      {{"--model", "m", "--coordinator", "h:1", "--comm-timeout", "nan"},
       "--comm-timeout: expected 0.1 .. 86400 seconds, got nan"},
      {{"--model", "m", "--coordinator", "h:1", "--join-timeout", "0"},
       "--join-timeout: expected 0.1 .. 86400 seconds, got 0"},
      {{"--model", "m", "--coordinator", "h:1", "--health-port", "70000"}, "--health-port"},
      {{"--model", "m", "--coordinator", "h:1", "--device", "tpu"}, "--device"},
      {{"--model", "m", "--coordinator", "h:1", "--comm", "tcp"}, "--comm"},
      {{"--model", "m", "--coordinator", "h:1", "--deterministic=perhaps"}, "--deterministic"},
  };
  for (const Mistake& mistake : mistakes) {
    const auto parsed = Parse(mistake.args);
    EXPECT_EQ(parsed.exit_code, 2) << mistake.complaint;
    EXPECT_THAT(errors_, HasSubstr(mistake.complaint));
    EXPECT_THAT(errors_, HasSubstr("see tessera-worker --help"));
  }
}

TEST(HealthServerTest, ServesOnlyWhenToldSo) {
  auto health = HealthServer::Start("127.0.0.1", 0);
  ASSERT_TRUE(health.ok()) << health.status();
  const int port = (*health)->port();
  EXPECT_EQ(CheckHealth(port), "NOT_SERVING");
  (*health)->SetServing(true);
  EXPECT_EQ(CheckHealth(port), "SERVING");
  (*health)->SetServing(false);
  EXPECT_EQ(CheckHealth(port), "NOT_SERVING");

  auto second = HealthServer::Start("127.0.0.1", port);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat("127.0.0.1:", port)));
}

}  // namespace
}  // namespace tessera::worker
