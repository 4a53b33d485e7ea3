// The conformance suite over real MPI: mpirun runs this program on every rank, and every rank runs
// the same cases in the same order on the one world that main owns. With --no-shared-memory it runs
// them over messages alone, as between nodes; with --share-cores by ranks that have fewer cores than
// threads.

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "tests/worker/comm/conformance.h"
#include "tests/worker/comm/rank_tests.h"
#include "worker/comm/communicator.h"
#include "worker/comm/doorbells.h"
#include "worker/comm/mpi_communicator.h"

namespace tessera::worker {
namespace {

Communicator* mpi_world = nullptr;  // main's; GoogleTest has no other way in
bool shared_memory_wanted = true;
bool cores_shared = false;

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

TEST(MpiCommunicatorTest, WaitsForMessagesWithDoorbellsWhereMemoryIsShared) {
  const Patience patience = mpi_world->patience();
  EXPECT_EQ(patience.bells != nullptr, SharesMemory(*mpi_world));
  EXPECT_EQ(patience.yield_until,
            cores_shared ? kSharedCore.yield_until : Patience().yield_until);
  if (patience.bells == nullptr) return;
  // Soon after all have met nothing is under way any more.
  ASSERT_TRUE(mpi_world->Barrier().ok());
  for (Backoff backoff; backoff.waited() < absl::Seconds(10); backoff.Wait()) {
    ASSERT_TRUE(mpi_world->TryReceive(0, 99).ok());
    if (patience.bells->only_rings()) return;
  }
  ADD_FAILURE() << "something is still under way";
}

// Of this host, in all processes.
int64_t SharedKilobytes() {
  std::ifstream file("/proc/meminfo");
  int64_t kilobytes = -1;
  for (std::string word; kilobytes < 0 && file >> word;) {
    if (word == "Shmem:") file >> kilobytes;
  }
  return kilobytes;
}

// So that there is enough of it or none, and no write ends the process.
TEST(MpiCommunicatorTest, SharedMemoryIsAllThereFromTheStart) {
  constexpr int64_t kKilobytes = 32 << 10;
  const int64_t before = SharedKilobytes();
  ASSERT_TRUE(mpi_world->Barrier().ok());
  const auto pieces = mpi_world->AllocateShared(kKilobytes << 10);
  ASSERT_TRUE(pieces.ok()) << pieces.status().ToString();
  const auto count = static_cast<int64_t>(pieces->size());
  // Half of it, as others may give some back meanwhile.
  EXPECT_GE(SharedKilobytes() - before, count * kKilobytes / 2);
  // Nor does it take of /dev/shm.
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const bool in_folder = line.find("/dev/shm/") != std::string::npos;
    EXPECT_FALSE(in_folder && line.find("vader_segment") == std::string::npos) << line;
  }
}

TEST(MpiCommunicatorTest, IsOncePerProcess) {
  const auto second = MakeMpiCommunicator({});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
}

int RunOnThisRank(const std::string& flag) {
  shared_memory_wanted = flag != "--no-shared-memory";
  cores_shared = flag == "--share-cores";
  return RunTestsOnRanks({.shared_memory = shared_memory_wanted}, &mpi_world,
                         [](Communicator& world) {
                           if (cores_shared) world.ShareCores();
                         });
}

}  // namespace
}  // namespace tessera::worker

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return tessera::worker::RunOnThisRank(argc < 2 ? "" : argv[1]);
}
