// The stub of the CUDA runtime behaves as CUDA does where the worker relies on it, and is stricter
// where CUDA would go on silently; and what the device makes of it.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/ops.h"
#include "kernels/device.h"
#include "kernels/simulated/journal.h"

namespace tessera::gpu_stubs {
namespace {

using ::testing::HasSubstr;

class RuntimeStubTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    void* device = nullptr;
    void* host = nullptr;
    ASSERT_EQ(cudaMalloc(&device, kBytes), cudaSuccess);
    ASSERT_EQ(cudaHostAlloc(&host, kBytes, cudaHostAllocDefault), cudaSuccess);
    device_ = static_cast<float*>(device);
    host_ = static_cast<float*>(host);
  }
  void TearDown() override {
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    EXPECT_EQ(cudaFree(device_), cudaSuccess);
    EXPECT_EQ(cudaFreeHost(host_), cudaSuccess);
  }
  cudaError_t Upload(size_t bytes = kBytes) {
    return cudaMemcpyAsync(device_, host_, bytes, cudaMemcpyHostToDevice, stream_);
  }
  float FirstOnDevice() {
    float value = 0;
    EXPECT_EQ(cudaMemcpyAsync(&value, device_, 4, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
    return value;
  }

  static constexpr size_t kBytes = 64;
  cudaStream_t stream_ = nullptr;
  float* device_ = nullptr;
  float* host_ = nullptr;
};

TEST_F(RuntimeStubTest, APinnedBufferIsReadWhenTheCopyRuns) {
  host_[0] = 1;
  ASSERT_EQ(Upload(), cudaSuccess);
  host_[0] = 2;  // too early: the copy has not run
  EXPECT_EQ(FirstOnDevice(), 2);
}

TEST_F(RuntimeStubTest, AnEventIsPassedWhenWhatCameBeforeIsDone) {
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  host_[0] = 1;
  ASSERT_EQ(Upload(), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
  ASSERT_EQ(cudaEventSynchronize(event), cudaSuccess);
  host_[0] = 2;
  EXPECT_EQ(FirstOnDevice(), 1);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

TEST_F(RuntimeStubTest, AQueryOfAnEventSaysNotReadyUntilWhatCameBeforeIsDone) {
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess) << "nothing came before";
  StartJournal();
  ASSERT_EQ(Upload(), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
  ASSERT_EQ(Upload(), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaSuccess);
  const std::vector<std::string> journal = StopJournal();
  ASSERT_EQ(journal.size(), 5u);
  const std::string number = journal[1].substr(7);
  EXPECT_THAT(journal, ::testing::ElementsAre("copy in", "record " + number, "copy in",
                                              "query " + number + ": not yet",
                                              "query " + number + ": passed"));
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

TEST_F(RuntimeStubTest, AGpuThatStandsStillIsNotReady) {
  ASSERT_EQ(Upload(), cudaSuccess);
  StandStill(std::chrono::milliseconds(50));
  EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_FALSE(StandsStill());
}

TEST_F(RuntimeStubTest, AQuerySaysNotReadyWhileThereIsWork) {
  ASSERT_EQ(Upload(), cudaSuccess);
  ASSERT_EQ(Upload(), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaSuccess);
}

TEST_F(RuntimeStubTest, ARecordingRunsWhenItIsLaunchedAndAsOftenAsThat) {
  host_[0] = 1;
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  ASSERT_EQ(Upload(), cudaSuccess);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_NE(FirstOnDevice(), 1) << "it ran while it was recorded";
  for (const float value : {2.0f, 3.0f}) {
    host_[0] = value;
    ASSERT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    EXPECT_EQ(FirstOnDevice(), value);
  }
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
}

TEST_F(RuntimeStubTest, WhatWaitsOrAllocatesSpoilsARecording) {
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  void* more = nullptr;
  EXPECT_EQ(cudaMalloc(&more, 1), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
}

TEST_F(RuntimeStubTest, ACopyBeyondItsMemoryIsRefused) {
  EXPECT_EQ(Upload(kBytes + 1), cudaErrorInvalidValue);
}

// Before the first call of the stub, which reads it once.
[[maybe_unused]] const int told = setenv("TESSERA_STUB_FAIL", "run@SiluMul", 1);

TEST(SimulatedDeviceTest, ALaunchThatIsRefusedIsRememberedWithItsOperation) {
  auto device = kernels::MakeDevice("cuda", {});
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ((*device)->Name(), "cuda 0: simulated GPU");
  auto memory = (*device)->Allocate(64);
  ASSERT_TRUE(memory.ok());
  auto* x = reinterpret_cast<kernels::Activation*>(memory->get());
  const kernels::SampleRow asked;
  kernels::SampledRow found;
  // A row of no logits: no kernel for that.
  const absl::Status first = (*device)->SampleRows(reinterpret_cast<const float*>(x), 0, 0,
                                                   absl::MakeConstSpan(&asked, 1), &found, nullptr);
  EXPECT_EQ(std::string(first.message()),
            "cuda 0: simulated GPU: SampleRows: kernel launch: invalid argument "
            "(cudaErrorInvalidValue)");
  (*device)->Add(reinterpret_cast<kernels::Partial*>(x), 1.0f, 8, x);
  EXPECT_EQ((*device)->Sync(), first);
  EXPECT_EQ((*device)->Allocate(8).status(), first);
}

TEST(SimulatedDeviceTest, MoreMemoryThanThereIsIsTheCallersAffair) {
  auto device = kernels::MakeDevice("cuda", {});
  ASSERT_TRUE(device.ok()) << device.status();
  const auto memory = (*device)->Allocate(size_t{1} << 40);
  EXPECT_EQ(memory.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(memory.status().message()), HasSubstr("cudaMalloc: out of memory"));
  EXPECT_TRUE((*device)->Sync().ok());
}

// Last: the simulated GPU does not recover, as a real one would not.
TEST(SimulatedDeviceTest, AKernelThatFailsShowsInTheNextSyncAndEveryOneAfterIt) {
  auto device = kernels::MakeDevice("cuda", {});
  ASSERT_TRUE(device.ok()) << device.status();
  auto memory = (*device)->Allocate(64);
  ASSERT_TRUE(memory.ok());
  auto* x = reinterpret_cast<kernels::Activation*>(memory->get());
  (*device)->SiluMul(x, x, 8, x);
  (*device)->SiluMul(x, x, 8, x);
  const absl::Status first = (*device)->Sync();
  EXPECT_THAT(std::string(first.message()),
              HasSubstr("Sync: cudaStreamSynchronize: unspecified launch failure"));
  EXPECT_EQ((*device)->Sync(), first);
  EXPECT_FALSE((*device)->Idle().ok());
}

}  // namespace
}  // namespace tessera::gpu_stubs
