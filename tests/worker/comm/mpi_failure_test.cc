// How an MPI job ends when it does not end well: every death leaves no process and no shared
// memory, every missed deadline names who was waited for.

#include <signal.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/mpirun_job.h"
#include "worker/comm/backoff.h"

namespace tessera::worker {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// The promise is 2 s. A sanitized build on a loaded machine may take longer and still be right.
constexpr absl::Duration kGoneWithin = absl::Seconds(10);

// What is left of the job when nothing is left or the time is over.
std::vector<std::string> RemainsInTheEnd(const MpirunJob& job) {
  Backoff backoff;
  std::vector<std::string> remains = job.Remains();
  while (!remains.empty() && backoff.waited() < kGoneWithin) {
    backoff.Wait();
    remains = job.Remains();
  }
  std::printf("gone after %s\n", absl::FormatDuration(backoff.waited()).c_str());
  return remains;
}

struct Death {
  const char* name;
  std::function<void(const MpirunJob&)> strike;
};

void PrintTo(const Death& death, std::ostream* out) { *out << death.name; }

struct MpiDeathTest : testing::TestWithParam<std::tuple<Death, const char*>> {};

TEST_P(MpiDeathTest, LeavesNothingBehind) {
  const auto& [death, mode] = GetParam();
  MpirunJob job(TESSERA_MPI_FAILURE_RANK, mode, 3);
  ASSERT_TRUE(job.WaitUntilReady()) << job.output();
  // Otherwise there would be nothing to test.
  ASSERT_THAT(job.segments(), Not(IsEmpty())) << job.output();
  death.strike(job);
  EXPECT_THAT(RemainsInTheEnd(job), IsEmpty());
  EXPECT_NE(job.WaitForExit(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    , MpiDeathTest,
    testing::Combine(
        testing::Values(
            Death{"RankKilled", [](const MpirunJob& job) { kill(job.ranks()[1], SIGKILL); }},
            Death{"RankSegfaults", [](const MpirunJob& job) { kill(job.ranks()[1], SIGSEGV); }},
            Death{"MpirunKilled", [](const MpirunJob& job) { kill(job.mpirun(), SIGKILL); }},
            Death{"MpirunTerminated", [](const MpirunJob& job) { kill(job.mpirun(), SIGTERM); }},
            Death{"AllKilled",
                  [](const MpirunJob& job) {
                    kill(job.mpirun(), SIGKILL);
                    for (pid_t process : job.ranks()) kill(process, SIGKILL);
                  }}),
        testing::Values("receive", "compute", "sum")),
    [](const auto& test) {
      return std::string(std::get<0>(test.param).name) + "While_" + std::get<1>(test.param);
    });

struct MpiSilenceTest : testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(, MpiSilenceTest, testing::Values("silent", "messages"),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(MpiSilenceTest, PeerIsNamedAndTheGroupIsDead) {
  MpirunJob job(TESSERA_MPI_FAILURE_RANK, GetParam(), 2);
  ASSERT_TRUE(job.WaitUntilReady()) << job.output();
  EXPECT_NE(job.WaitForExit(), 0);
  const std::string cause =
      "DEADLINE_EXCEEDED: AllReduceSum of 2304 bytes on world rank 0: no answer from world rank 1 "
      "within 300ms";
  // The call itself, and three that came after it, and the abort.
  EXPECT_THAT(job.output(), HasSubstr("failed: " + cause + "\nfailed: " + cause + "\nfailed: " +
                                      cause + "\nfailed: " + cause + "\n"));
  EXPECT_THAT(job.output(), HasSubstr("aborting the MPI job: " + cause));
  EXPECT_THAT(RemainsInTheEnd(job), IsEmpty());
}

TEST(MpiFailureTest, UnequalLengthsAreAnError) {
  MpirunJob job(TESSERA_MPI_FAILURE_RANK, "unequal", 2);
  ASSERT_TRUE(job.WaitUntilReady()) << job.output();
  // Rank 1 says the like of rank 0, perhaps before.
  const std::string expected =
      "failed: INVALID_ARGUMENT: AllReduceSum of 2304 bytes on world rank 0: world rank 1 called it "
      "with 400 bytes; every rank must use the same length";
  while (job.output().find(expected) == std::string::npos) {
    ASSERT_TRUE(job.ReadSome()) << "expected: " << expected << "\n" << job.output();
  }
}

TEST(MpiFailureTest, EndingDoesNotWaitForeverForTheOthers) {
  MpirunJob job(TESSERA_MPI_FAILURE_RANK, "leave", 3);
  ASSERT_TRUE(job.WaitUntilReady()) << job.output();
  EXPECT_NE(job.WaitForExit(), 0);
  EXPECT_THAT(job.output(), Not(HasSubstr("failed: OK")));
  EXPECT_THAT(job.output(), ContainsRegex("aborting the MPI job: DEADLINE_EXCEEDED: "
                                          "(Finalize|Receive) of 0 bytes on world rank [0-2]: "
                                          "no answer from world rank [0-2] within 300ms"));
  EXPECT_THAT(RemainsInTheEnd(job), IsEmpty());
}

}  // namespace
}  // namespace tessera::worker
