// The conformance suite over real MPI: mpirun runs this program on every rank, and every rank runs
// the same cases in the same order on the one world that main owns. With --no-shared-memory it runs
// them over messages alone, as between nodes.

#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "tests/worker/comm/conformance.h"
#include "tests/worker/comm/rank_tests.h"
#include "worker/comm/communicator.h"
#include "worker/comm/mpi_communicator.h"

namespace tessera::worker {
namespace {

Communicator* mpi_world = nullptr;  // main's; GoogleTest has no other way in
bool shared_memory_wanted = true;

struct MpiConformanceTest : testing::TestWithParam<ConformanceCase> {};

TEST_P(MpiConformanceTest, Holds) { GetParam().run(*mpi_world); }

INSTANTIATE_TEST_SUITE_P(Mpi, MpiConformanceTest, testing::ValuesIn(ConformanceCases()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(MpiCommunicatorTest, SharesMemoryUnlessRefusedOrAlone) {
  EXPECT_EQ(SharesMemory(*mpi_world), shared_memory_wanted && mpi_world->size() > 1);
  auto part = mpi_world->Split(0, mpi_world->rank());
  ASSERT_TRUE(part.ok()) << part.status().ToString();
  EXPECT_EQ(SharesMemory(**part), SharesMemory(*mpi_world));
  auto messages = WithoutSharedMemory(*mpi_world);
  ASSERT_TRUE(messages.ok()) << messages.status().ToString();
  EXPECT_FALSE(SharesMemory(**messages));
}

TEST(MpiCommunicatorTest, IsOncePerProcess) {
  const auto second = MakeMpiCommunicator({});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
}

int RunOnThisRank(bool shared_memory) {
  shared_memory_wanted = shared_memory;
  return RunTestsOnRanks({.shared_memory = shared_memory}, &mpi_world);
}

}  // namespace
}  // namespace tessera::worker

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const bool shared_memory = argc < 2 || argv[1] != std::string("--no-shared-memory");
  return tessera::worker::RunOnThisRank(shared_memory);
}
