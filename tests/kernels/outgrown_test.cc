// Memory of a simulated GPU (kernels/simulated) that grows while the GPU is at work: what was there
// before is freed once it is idle, for freeing waits, and an exchange with a dead rank never ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "kernels/simulated/journal.h"
#include "tests/kernels/host_ops.h"

namespace tessera::kernels {
namespace {

using gpu_stubs::Count;
using gpu_stubs::Journal;

constexpr int kHeadDim = 16;
constexpr int kBlockTokens = 16;
constexpr int kLongest = 4096;  // positions

class OutgrownTest : public testing::Test {
 protected:
  void SetUp() override {
    auto device = MakeDevice("cuda", {});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    cache_ = {.keys = Allocate(kLongest * kHeadDim * 2),
              .values = Allocate(kLongest * kHeadDim * 2),
              .num_blocks = kLongest / kBlockTokens,
              .num_kv_heads = 1,
              .block_tokens = kBlockTokens,
              .head_dim = kHeadDim};
    x_ = reinterpret_cast<Activation*>(Allocate(64 * kHeadDim * 2));
    y_ = reinterpret_cast<Activation*>(Allocate(64 * kHeadDim * 2));
  }

  std::byte* Allocate(size_t bytes) {
    auto memory = device_->Allocate(bytes);
    EXPECT_TRUE(memory.ok()) << memory.status();
    memory_.push_back(*std::move(memory));
    return memory_.back().get();
  }

  // Puts the attention of one token at that position on the stream, behind what stands for an
  // exchange with others; `replayable` as a decoder does.
  void Attend(int position, bool replayable) {
    OwnedStep step;
    std::vector<int32_t> blocks(position / kBlockTokens + 1);
    for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<int32_t>(i);
    step.AddSequence(position, {0}, blocks);
    StepView view = step.view();
    view.largest_group = 1;
    auto rows = device_->BeginStep(view);
    ASSERT_TRUE(rows.ok()) << rows.status();
    device_->Add(reinterpret_cast<Partial*>(y_), 1.0f, kHeadDim, x_);
    const auto attend = [&] {
      device_->Attention(x_, shape_, cache_, *rows, y_);
      return absl::OkStatus();
    };
    const absl::Status status = replayable ? device_->Replayable(0, *rows, attend) : attend();
    ASSERT_TRUE(status.ok()) << status;
  }

  // Looks until the device is idle.
  void Finish() {
    absl::StatusOr<bool> idle = false;
    do {
      idle = device_->Idle();
      ASSERT_TRUE(idle.ok()) << idle.status();
    } while (!*idle);
  }

  std::unique_ptr<Device> device_;
  std::vector<Device::Buffer> memory_;
  KvCacheView cache_;
  const int32_t kv_head_of_[1] = {0};
  const AttentionShape shape_ = {.num_q_heads = 1,
                                 .num_kv_heads = 1,
                                 .head_dim = kHeadDim,
                                 .kv_head_of = kv_head_of_,
                                 .scale = 1};
  Activation* x_ = nullptr;
  Activation* y_ = nullptr;
};

TEST_F(OutgrownTest, ALongerContextFreesNothingBeforeTheDeviceIsIdle) {
  Attend(10, false);
  Finish();
  Attend(20, false);  // at work when the next one comes
  gpu_stubs::StartJournal();
  Attend(4000, false);
  const Journal growing = gpu_stubs::StopJournal();
  EXPECT_EQ(Count(growing, "free") + Count(growing, "free at work"), 0);
  EXPECT_EQ(Count(growing, "synchronize"), 0);
  gpu_stubs::StartJournal();
  Finish();
  const Journal idle = gpu_stubs::StopJournal();
  EXPECT_EQ(Count(idle, "free"), 3) << "the step's arrays, twice, and the scratch of attention";
  EXPECT_EQ(Count(idle, "free at work"), 0);
}

TEST_F(OutgrownTest, RecordingsOfOutgrownMemoryGoOnceTheDeviceIsIdle) {
  for (int i = 0; i < 3; ++i) Attend(10 + i, true);  // run, recorded, replayed
  Finish();
  Attend(13, true);
  gpu_stubs::StartJournal();
  Attend(4000, true);
  const Journal growing = gpu_stubs::StopJournal();
  EXPECT_EQ(Count(growing, "drop graph"), 0);
  EXPECT_EQ(Count(growing, "synchronize"), 0);
  gpu_stubs::StartJournal();
  Finish();
  EXPECT_EQ(Count(gpu_stubs::StopJournal(), "drop graph"), 1);
}

TEST_F(OutgrownTest, MoreSampledRowsThanEverFreeNothingBeforeTheDeviceIsIdle) {
  const auto* const logits = reinterpret_cast<const float*>(Allocate(100 * 8 * sizeof(float)));
  std::vector<SampledRow> sampled(100);
  std::vector<Candidate> candidates(100 * device_->MaxCandidates());
  gpu_stubs::StartJournal();
  for (int rows : {2, 100, 3, 100}) {
    const std::vector<SampleRow> asked(rows);
    ASSERT_TRUE(device_->sampling_queue()->Begin(asked).ok());
    device_->sampling_queue()->Sample(logits, 8, 0, 0, rows);
    ASSERT_TRUE(device_->sampling_queue()->End().ok());
    if (rows == 2) continue;  // from then on two are under way
    while (!*device_->sampling_queue()->Arrived()) {
    }
    ASSERT_TRUE(device_->sampling_queue()->Collect(sampled.data(), candidates.data()).ok());
  }
  const Journal journal = gpu_stubs::StopJournal();
  EXPECT_EQ(Count(journal, "free at work"), 0);
  Finish();
}

}  // namespace
}  // namespace tessera::kernels
