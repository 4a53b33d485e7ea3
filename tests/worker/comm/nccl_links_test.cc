// The links over NCCL between simulated GPUs (kernels/simulated): mpirun runs this program on every
// rank, and every rank runs the same cases in the same order.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "kernels/device.h"
#include "tests/worker/comm/rank_tests.h"
#include "worker/comm/activation_link.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {
namespace {

using testing::HasSubstr;

Communicator* world = nullptr;  // main's; GoogleTest has no other way in

class NcclLinksTest : public testing::Test {
 protected:
  void SetUp() override {
    auto device = kernels::MakeDevice("cuda", {.gpu = world->rank()});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    auto links = MakeDeviceLinks({.device = device_.get(),
                                  .world_rank = world->rank(),
                                  .tp = world,
                                  .deadline = absl::Seconds(20)});
    ASSERT_TRUE(links.ok()) << links.status();
    links_ = *std::move(links);
  }

  std::byte* Allocate(size_t bytes) {
    auto memory = links_.tp->Allocate(bytes);
    EXPECT_TRUE(memory.ok()) << memory.status();
    return memory.ok() ? *memory : nullptr;
  }
  void Wait() {
    const absl::Status status = links_.tp->Wait([] { return absl::OkStatus(); });
    ASSERT_TRUE(status.ok()) << status;
  }

  std::unique_ptr<kernels::Device> device_;
  Links links_;
};

std::vector<uint8_t> PartOf(int rank, size_t bytes) {
  std::vector<uint8_t> part(bytes);
  for (size_t i = 0; i < bytes; ++i) part[i] = static_cast<uint8_t>(31 * rank + 7 * i);
  return part;
}

TEST_F(NcclLinksTest, GathersTheRanksPartsInTheirOrder) {
  const size_t most = 100000;
  std::byte* const mine = Allocate(most * (1 + world->size()));
  std::byte* const all = mine + most;
  for (size_t bytes : {size_t{1}, size_t{48}, size_t{1001}, most}) {
    const std::vector<uint8_t> part = PartOf(world->rank(), bytes);
    ASSERT_TRUE(device_->WriteBytes(part.data(), bytes, mine).ok());
    ASSERT_TRUE(links_.tp->AllGather(mine, bytes, all).ok());
    Wait();
    std::vector<uint8_t> gathered(bytes * world->size());
    ASSERT_TRUE(device_->ReadBytes(all, gathered.size(), gathered.data()).ok());
    for (int rank = 0; rank < world->size(); ++rank) {
      const auto begin = gathered.begin() + static_cast<ptrdiff_t>(rank * bytes);
      EXPECT_EQ(std::vector<uint8_t>(begin, begin + static_cast<ptrdiff_t>(bytes)),
                PartOf(rank, bytes))
          << bytes << " bytes of rank " << rank;
    }
  }
}

// What is gathered is what the work before it has left, and nothing waits for the host.
TEST_F(NcclLinksTest, GathersInTheOrderOfTheDevicesWork) {
  const int64_t count = 24;
  std::byte* const mine = Allocate(count * 2 * (1 + world->size()));
  std::byte* const all = mine + count * 2;
  std::vector<float> values(count, static_cast<float>(world->rank() + 1));
  auto* const x = reinterpret_cast<kernels::Activation*>(mine);
  ASSERT_TRUE(device_->WriteActivations(values.data(), count, x).ok());
  ASSERT_TRUE(links_.tp->AllReduceSum(x, count).ok());
  ASSERT_TRUE(links_.tp->AllGather(mine, count * 2, all).ok());
  device_->Add(reinterpret_cast<kernels::Partial*>(all), 1.0f, count, x);  // twice the sum
  ASSERT_TRUE(links_.tp->AllGather(mine, count * 2, all).ok());
  Wait();
  std::vector<float> gathered(count * world->size());
  ASSERT_TRUE(device_
                  ->ReadActivations(reinterpret_cast<const kernels::Activation*>(all),
                                    static_cast<int64_t>(gathered.size()), gathered.data())
                  .ok());
  const int size = world->size();
  EXPECT_THAT(gathered, testing::Each(static_cast<float>(size * (size + 1))));
}

// Last: it ends the group.
TEST_F(NcclLinksTest, AGatherThatIsRefusedIsNamed) {
  std::vector<std::byte> host(64);
  const absl::Status status = links_.tp->AllGather(host.data(), 8, host.data() + 8);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("AllGather of 8 bytes on world rank " + std::to_string(world->rank()) +
                        ": ncclAllGather: "));
  EXPECT_EQ(links_.tp->AllGather(host.data(), 8, host.data() + 8), status) << "the first cause";
}

}  // namespace
}  // namespace tessera::worker

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return tessera::worker::RunTestsOnRanks({.deadline = absl::Seconds(60)},
                                          &tessera::worker::world);
}
