#include "kernels/cpu/cpu_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/device.h"

namespace tessera::kernels {
namespace {

using testing::HasSubstr;

TEST(MakeDeviceTest, AutoIsTheBestOfTheMachine) {
  auto device = MakeDevice("cpu", {});
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ((*device)->Name(), "cpu " + cpu::AvailableInstructionSets().back());
  EXPECT_EQ(cpu::AvailableInstructionSets().front(), "scalar");
}

TEST(MakeDeviceTest, UnknownKindIsNotFound) {
  auto device = MakeDevice("cuda", {});
  EXPECT_EQ(device.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("'cuda'"));
}

TEST(MakeDeviceTest, InstructionSetsAreTheMachinesOrUnimplemented) {
  for (const std::string name : {"scalar", "avx2", "avx512", "avx512vnni", "avx512bf16",
                                 "amx"}) {
    auto device = MakeDevice("cpu", {.instruction_set = name});
    const auto available = cpu::AvailableInstructionSets();
    if (std::find(available.begin(), available.end(), name) != available.end()) {
      ASSERT_TRUE(device.ok()) << device.status();
      EXPECT_EQ((*device)->Name(), "cpu " + name);
    } else {
      EXPECT_EQ(device.status().code(), absl::StatusCode::kUnimplemented);
    }
  }
}

TEST(MakeDeviceTest, RefusesWhatIsNoInstructionSetOrThreadCount) {
  auto unknown = MakeDevice("cpu", {.instruction_set = "mmx"});
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("mmx"));
  for (int threads : {0, -1, 1'000'000}) {
    auto device = MakeDevice("cpu", {.threads = threads});
    EXPECT_EQ(device.status().code(), absl::StatusCode::kInvalidArgument) << threads;
  }
}

TEST(CpuDeviceTest, BuffersAreAlignedAndWritable) {
  auto device = MakeDevice("cpu", {});
  ASSERT_TRUE(device.ok());
  for (size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{4096}, size_t{1'000'001}}) {
    auto buffer = (*device)->Allocate(bytes);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->get()) % 64, 0u);
    std::memset(buffer->get(), 0x5a, bytes);
  }
  EXPECT_TRUE((*device)->Sync().ok());
}

TEST(CpuDeviceTest, SizesBeyondTheAddressSpaceAreExhaustedResources) {
  auto device = MakeDevice("cpu", {});
  ASSERT_TRUE(device.ok());
  const auto buffer = (*device)->Allocate(SIZE_MAX - 3);
  EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace tessera::kernels
