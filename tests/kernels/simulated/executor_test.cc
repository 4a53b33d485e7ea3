// The executor runs right kernels and catches wrong ones: every check has a kernel that breaks its
// rule.
#include "kernels/simulated/executor.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/simt.h"

namespace tessera::kernels::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kThreads = 64;

// What running the kernel said: empty when it ended well.
template <typename... Params, typename... Args>
std::string Running(void (*kernel)(Params...), const LaunchShape& shape, Args&&... args) {
  const int error = Launch("Test", kernel, shape, nullptr, std::forward<Args>(args)...);
  const std::string failure = simt::TakeFailure();
  EXPECT_EQ(error, failure.empty() ? kLaunched : simt::kLaunchFailure);
  return failure;
}

class SimtExecutor : public ::testing::Test {
 protected:
  void SetUp() override { simt::SetChecks({.global_races = true}); }
  void TearDown() override { simt::SetChecks({}); }
};

// -- right kernels ------------------------------------------------------------------------------

TESSERA_GLOBAL void Indices(View<int32_t> out) {
  const int block = BlockX() + GridX() * (BlockY() + 2 * BlockZ());
  out.Set(int64_t{block} * kThreads + ThreadIndex(), block * 1000 + WarpIndex() * 100 + Lane());
}

TEST_F(SimtExecutor, RunsEveryThreadOfEveryBlock) {
  std::vector<int32_t> out(3 * 2 * 2 * kThreads, -1);
  EXPECT_THAT(Running(Indices, {.x = 3, .y = 2, .z = 2, .threads = kThreads},
                  TESSERA_VIEW(out.data(), out.size())),
              IsEmpty());
  for (size_t i = 0; i < out.size(); ++i) {
    const int block = static_cast<int>(i) / kThreads;
    const int thread = static_cast<int>(i) % kThreads;
    ASSERT_EQ(out[i], block * 1000 + thread / 32 * 100 + thread % 32) << i;
  }
}

TESSERA_GLOBAL void Reverse(View<const float> x, View<float> out) {
  TESSERA_SHARED(float, tile, kThreads);
  tile.Set(ThreadIndex(), x.Get(ThreadIndex()));
  SyncThreads();
  out.Set(ThreadIndex(), tile.Get(kThreads - 1 - ThreadIndex()));
}

TEST_F(SimtExecutor, BarriersOrderSharedMemory) {
  std::vector<float> x(kThreads), out(kThreads);
  for (int i = 0; i < kThreads; ++i) x[i] = static_cast<float>(i);
  EXPECT_THAT(Running(Reverse, {.threads = kThreads}, TESSERA_VIEW(x.data(), kThreads),
                  TESSERA_VIEW(out.data(), kThreads)),
              IsEmpty());
  for (int i = 0; i < kThreads; ++i) EXPECT_EQ(out[i], static_cast<float>(kThreads - 1 - i));
}

TESSERA_GLOBAL void Sums(View<float> out) {
  TESSERA_SHARED(float, partial, kThreads / 32);
  const float all = BlockSum<kThreads>(static_cast<float>(ThreadIndex()), partial);
  const float highest = WarpMax(static_cast<float>(ThreadIndex()));
  const float first = Shuffle(static_cast<float>(ThreadIndex()), 5);
  out.Set(ThreadIndex(), all + 10000 * highest + 1000000 * first);
}

TEST_F(SimtExecutor, ShufflesExchangeWithinAWarp) {
  std::vector<float> out(kThreads);
  EXPECT_THAT(Running(Sums, {.threads = kThreads}, TESSERA_VIEW(out.data(), kThreads)), IsEmpty());
  for (int i = 0; i < kThreads; ++i) {
    const int warp = i / 32;
    EXPECT_EQ(out[i], 2016.0f + 10000.0f * (31 + 32 * warp) + 1000000.0f * (5 + 32 * warp));
  }
}

TESSERA_GLOBAL void MultiplyOnce(View<const BFloat16> a, View<const BFloat16> b, View<float> c) {
  const int group = Lane() / 4;
  const int pair = Lane() % 4 * 2;
  uint32_t fragment[4];
  for (int r = 0; r < 4; ++r) {
    fragment[r] = a.GetBits<1>((group + r % 2 * 8) * 16 + pair + r / 2 * 8).word[0];
  }
  float sum[4] = {1, 1, 1, 1};
  Mma16816(sum, fragment, b.GetBits<1>(group * 16 + pair).word[0],
           b.GetBits<1>(group * 16 + pair + 8).word[0]);
  for (int r = 0; r < 4; ++r) c.Set((group + r / 2 * 8) * 8 + pair + r % 2, sum[r]);
}

TEST_F(SimtExecutor, TensorCoreProductIsAMatrixProduct) {
  std::vector<BFloat16> a(16 * 16), b(8 * 16);  // b: one row per column of the product
  std::vector<float> c(16 * 8);
  for (int i = 0; i < 16 * 16; ++i) a[i] = FloatToBf16(static_cast<float>((i * 37) % 19 - 9));
  for (int i = 0; i < 8 * 16; ++i) b[i] = FloatToBf16(static_cast<float>((i * 23) % 13 - 6));
  EXPECT_THAT(Running(MultiplyOnce, {.threads = 32}, TESSERA_VIEW(a.data(), a.size()),
                  TESSERA_VIEW(b.data(), b.size()), TESSERA_VIEW(c.data(), c.size())),
              IsEmpty());
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      float sum = 1;
      for (int k = 0; k < 16; ++k) {
        sum += BFloat16ToFloat(a[i * 16 + k].bits) * BFloat16ToFloat(b[j * 16 + k].bits);
      }
      EXPECT_EQ(c[i * 8 + j], sum) << i << ", " << j;
    }
  }
}

// Copies 32 rows of 8 elements to shared memory and reads them as four transposed 8 x 8 matrices.
TESSERA_GLOBAL void TransposeFour(View<const BFloat16> x, View<uint32_t> out) {
  const Shared<BFloat16> tile = DynamicShared<BFloat16>(0, 256);
  CpAsync16(tile, Lane() * 8, x, Lane() * 8, true);
  CpAsyncCommit();
  CpAsyncWait<0>();
  SyncWarp();
  uint32_t matrices[4];
  LoadMatrixTransposed(tile, Lane() * 8, matrices);
  for (int m = 0; m < 4; ++m) out.Set(m * 32 + Lane(), matrices[m]);
}

TEST_F(SimtExecutor, CopiesArriveAndMatricesTranspose) {
  alignas(16) BFloat16 x[256];
  for (int i = 0; i < 256; ++i) x[i].bits = static_cast<uint16_t>(i);
  std::vector<uint32_t> out(128);
  EXPECT_THAT(Running(TransposeFour, {.threads = 32, .shared_bytes = 512},
                  TESSERA_VIEW(static_cast<const BFloat16*>(x), 256),
                  TESSERA_VIEW(out.data(), out.size())),
              IsEmpty());
  for (int m = 0; m < 4; ++m) {
    for (int lane = 0; lane < 32; ++lane) {
      const uint32_t row = lane % 4 * 2;
      const uint32_t low = 64 * m + 8 * row + lane / 4;
      EXPECT_EQ(out[m * 32 + lane], low | (low + 8) << 16);
    }
  }
}

// -- wrong kernels ------------------------------------------------------------------------------

TESSERA_GLOBAL void OneTooFar(View<float> out) { out.Set(ThreadIndex() + 1, 0.0f); }

TEST_F(SimtExecutor, CatchesGlobalOutOfBounds) {
  std::vector<float> out(kThreads);
  EXPECT_THAT(Running(OneTooFar, {.threads = kThreads}, TESSERA_VIEW(out.data(), kThreads)),
              AllOf(HasSubstr("kernel Test, block (0, 0, 0), thread 63"),
                    HasSubstr("out.data()"), HasSubstr("[64, 65) of 64 are out of bounds")));
}

TESSERA_GLOBAL void BeforeTheFirst(View<const float> x, View<float> out) {
  out.Set(ThreadIndex(), x.Get(int64_t{ThreadIndex()} - 1));
}

TEST_F(SimtExecutor, CatchesNegativeIndex) {
  std::vector<float> x(kThreads), out(kThreads);
  EXPECT_THAT(Running(BeforeTheFirst, {.threads = kThreads}, TESSERA_VIEW(x.data(), kThreads),
                  TESSERA_VIEW(out.data(), kThreads)),
              HasSubstr("[-1, 0) of 64 are out of bounds"));
}

TESSERA_GLOBAL void ReadsNull(View<const float> x, View<float> out) {
  out.Set(ThreadIndex(), x.Get(0));
}

TEST_F(SimtExecutor, CatchesNullView) {
  std::vector<float> out(kThreads);
  EXPECT_THAT(Running(ReadsNull, {.threads = kThreads},
                  TESSERA_VIEW(static_cast<const float*>(nullptr), 64),
                  TESSERA_VIEW(out.data(), kThreads)),
              HasSubstr("[0, 1) of 0 are out of bounds"));
}

TESSERA_GLOBAL void SharedTooFar() {
  TESSERA_SHARED(float, tile, kThreads);
  tile.Set(2 * ThreadIndex(), 1.0f);
}

TEST_F(SimtExecutor, CatchesSharedOutOfBounds) {
  EXPECT_THAT(Running(SharedTooFar, {.threads = kThreads}),
              AllOf(HasSubstr("thread 32"), HasSubstr("view tile: elements [64, 65) of 64")));
}

TESSERA_GLOBAL void MoreDynamicThanLaunched() { DynamicShared<float>(64, 65).Set(0, 1.0f); }

TEST_F(SimtExecutor, CatchesMoreDynamicSharedMemoryThanTheLaunchHas) {
  EXPECT_THAT(Running(MoreDynamicThanLaunched, {.threads = 32, .shared_bytes = 64 + 256}),
              HasSubstr("[64, 324) asked for; the launch has 320 bytes"));
}

TESSERA_GLOBAL void Misaligned(View<const BFloat16> x, View<uint32_t> out) {
  out.Set(ThreadIndex(), x.GetBits<4>(ThreadIndex() * 4).word[0]);
}

TEST_F(SimtExecutor, CatchesMisalignedVectors) {
  alignas(16) BFloat16 x[1024] = {};
  std::vector<uint32_t> out(kThreads);
  EXPECT_THAT(Running(Misaligned, {.threads = kThreads},
                  TESSERA_VIEW(static_cast<const BFloat16*>(x), 1024),
                  TESSERA_VIEW(out.data(), kThreads)),
              AllOf(HasSubstr("thread 1"), HasSubstr("index 4 is not aligned to 16 bytes")));
}

TESSERA_GLOBAL void ReadsUnwritten(View<float> out) {
  TESSERA_SHARED(float, tile, kThreads);
  if (ThreadIndex() != 7) tile.Set(ThreadIndex(), 1.0f);
  SyncThreads();
  out.Set(ThreadIndex(), tile.Get(ThreadIndex()));
}

TEST_F(SimtExecutor, CatchesSharedMemoryThatNobodyWrote) {
  std::vector<float> out(kThreads);
  EXPECT_THAT(Running(ReadsUnwritten, {.threads = kThreads}, TESSERA_VIEW(out.data(), kThreads)),
              AllOf(HasSubstr("thread 7"), HasSubstr("tile[7]"), HasSubstr("nobody wrote")));
}

// Block 0 writes; what it wrote must not count for block 1.
TESSERA_GLOBAL void OnlyBlockZeroWrites(View<float> out) {
  TESSERA_SHARED(float, tile, kThreads);
  if (BlockX() == 0) tile.Set(ThreadIndex(), 1.0f);
  SyncThreads();
  out.Set(BlockX() * kThreads + ThreadIndex(), tile.Get(ThreadIndex()));
}

TEST_F(SimtExecutor, CatchesSharedMemoryOfAnotherBlock) {
  std::vector<float> out(2 * kThreads);
  EXPECT_THAT(Running(OnlyBlockZeroWrites, {.x = 2, .threads = kThreads},
                  TESSERA_VIEW(out.data(), out.size())),
              AllOf(HasSubstr("block (1, 0, 0)"), HasSubstr("nobody wrote")));
}

TESSERA_GLOBAL void NoBarrier(View<float> out) {
  TESSERA_SHARED(float, tile, kThreads);
  tile.Set(ThreadIndex(), 1.0f);
  out.Set(ThreadIndex(), tile.Get(ThreadIndex() / 2));
}

TEST_F(SimtExecutor, CatchesReadRacingWithWrite) {
  std::vector<float> out(kThreads);
  EXPECT_THAT(Running(NoBarrier, {.threads = kThreads}, TESSERA_VIEW(out.data(), kThreads)),
              AllOf(HasSubstr("thread 1"), HasSubstr("reads tile[0]"),
                    HasSubstr("races with another thread's write")));
}

TESSERA_GLOBAL void OverwritesTooEarly(View<float> out) {
  TESSERA_SHARED(float, tile, kThreads);
  tile.Set(ThreadIndex(), 1.0f);
  SyncThreads();
  out.Set(ThreadIndex(), tile.Get(0));
  if (ThreadIndex() == 0) tile.Set(0, 2.0f);  // the other warp may still have to read it
}

TEST_F(SimtExecutor, CatchesWriteRacingWithRead) {
  std::vector<float> out(kThreads);
  EXPECT_THAT(Running(OverwritesTooEarly, {.threads = kThreads}, TESSERA_VIEW(out.data(), kThreads)),
              AllOf(HasSubstr("writes tile[0]"), HasSubstr("races with another thread's read")));
}

TESSERA_GLOBAL void AllWriteOne() {
  TESSERA_SHARED(float, tile, 1);
  tile.Set(0, static_cast<float>(ThreadIndex()));
}

TEST_F(SimtExecutor, CatchesWriteRacingWithWrite) {
  EXPECT_THAT(Running(AllWriteOne, {.threads = kThreads}),
              AllOf(HasSubstr("thread 1"), HasSubstr("races with another thread's write")));
}

TESSERA_GLOBAL void CountsAtomically(View<int32_t> out, bool reads_at_once) {
  TESSERA_SHARED(int32_t, count, 1);
  if (ThreadIndex() == 0) count.Set(0, 5);
  SyncThreads();
  AtomicAdd(count, 0, 2);
  if (!reads_at_once) SyncThreads();
  out.Set(ThreadIndex(), count.Get(0));
}

TEST_F(SimtExecutor, AtomicOperationsRaceOnlyWithPlainOnes) {
  std::vector<int32_t> out(kThreads);
  const auto view = TESSERA_VIEW(out.data(), kThreads);
  EXPECT_THAT(Running(CountsAtomically, {.threads = kThreads}, view, false), IsEmpty());
  EXPECT_EQ(out[7], 5 + 2 * kThreads);
  EXPECT_THAT(Running(CountsAtomically, {.threads = kThreads}, view, true),
              HasSubstr("races with another thread's"));
}

// A barrier of the warp orders its own lanes only.
TESSERA_GLOBAL void WarpBarrierForTwoWarps(View<float> out, int distance) {
  TESSERA_SHARED(float, tile, kThreads);
  tile.Set(ThreadIndex(), 1.0f);
  SyncThreads();
  tile.Set(ThreadIndex(), 2.0f);
  SyncWarp();
  out.Set(ThreadIndex(), tile.Get((ThreadIndex() + distance) % kThreads));
}

TESSERA_GLOBAL void WarpBarrierWithinOne(View<float> out) {
  TESSERA_SHARED(float, tile, kThreads);
  tile.Set(ThreadIndex(), 1.0f);
  SyncWarp();
  out.Set(ThreadIndex(), tile.Get(ThreadIndex() ^ 9));
}

TEST_F(SimtExecutor, WarpBarrierOrdersOnlyItsWarp) {
  std::vector<float> out(kThreads);
  EXPECT_THAT(Running(WarpBarrierWithinOne, {.threads = kThreads}, TESSERA_VIEW(out.data(), kThreads)),
              IsEmpty());
  EXPECT_THAT(
      Running(WarpBarrierForTwoWarps, {.threads = kThreads}, TESSERA_VIEW(out.data(), kThreads), 32),
      HasSubstr("races with another thread's write"));
}

// A shuffle orders no memory.
TESSERA_GLOBAL void ShuffleAsBarrier(View<float> out) {
  TESSERA_SHARED(float, tile, 32);
  tile.Set(Lane(), 1.0f);
  ShuffleXor(1.0f, 1);
  out.Set(Lane(), tile.Get(Lane() ^ 1));
}

TEST_F(SimtExecutor, CatchesShuffleUsedAsBarrier) {
  std::vector<float> out(32);
  EXPECT_THAT(Running(ShuffleAsBarrier, {.threads = 32}, TESSERA_VIEW(out.data(), 32)),
              HasSubstr("races with another thread's write"));
}

TESSERA_GLOBAL void SomeLeaveBeforeTheBarrier() {
  if (ThreadIndex() == 40) return;
  SyncThreads();
}

TEST_F(SimtExecutor, CatchesBarrierNotReachedByAll) {
  EXPECT_THAT(Running(SomeLeaveBeforeTheBarrier, {.threads = kThreads}),
              AllOf(HasSubstr("waits at SyncThreads (executor_test.cc:"),
                    HasSubstr("not all threads of the block reach: thread 40 has ended")));
}

TESSERA_GLOBAL void TwoBarriers() {
  if (ThreadIndex() < 32) {
    SyncThreads();
  } else {
    SyncThreads();
  }
}

TEST_F(SimtExecutor, CatchesDifferentBarriers) {
  EXPECT_THAT(Running(TwoBarriers, {.threads = kThreads}),
              HasSubstr("while others of the block are at SyncThreads"));
}

TESSERA_GLOBAL void DivergentShuffle(View<float> out) {
  if (Lane() < 16) out.Set(ThreadIndex(), ShuffleXor(1.0f, 1));
}

TEST_F(SimtExecutor, CatchesShuffleNotReachedByAll) {
  std::vector<float> out(32);
  EXPECT_THAT(Running(DivergentShuffle, {.threads = 32}, TESSERA_VIEW(out.data(), 32)),
              AllOf(HasSubstr("waits at ShuffleXor"),
                    HasSubstr("not all threads of the warp reach: thread 16 has ended")));
}

TESSERA_GLOBAL void BarrierAgainstShuffle() {
  if (ThreadIndex() < 10) {
    SyncThreads();
  } else {
    ShuffleXor(1.0f, 1);
  }
}

TEST_F(SimtExecutor, CatchesThreadsStuckAtDifferentCollectives) {
  EXPECT_THAT(Running(BarrierAgainstShuffle, {.threads = 32}),
              AllOf(HasSubstr("waits at SyncThreads"), HasSubstr("thread 10 waits at ShuffleXor")));
}

TESSERA_GLOBAL void ReadsCopyTooEarly(View<const float> x, View<float> out, bool waits) {
  TESSERA_SHARED(float, tile, 4 * 32);
  CpAsync16(tile, 4 * Lane(), x, 4 * Lane(), true);
  CpAsyncCommit();
  if (waits) CpAsyncWait<0>();
  out.Set(Lane(), tile.Get(4 * Lane()));
}

TEST_F(SimtExecutor, CatchesCopyReadBeforeItsWait) {
  alignas(16) float x[128] = {};
  std::vector<float> out(32);
  const auto view = TESSERA_VIEW(static_cast<const float*>(x), 128);
  EXPECT_THAT(Running(ReadsCopyTooEarly, {.threads = 32}, view, TESSERA_VIEW(out.data(), 32), true),
              IsEmpty());
  EXPECT_THAT(Running(ReadsCopyTooEarly, {.threads = 32}, view, TESSERA_VIEW(out.data(), 32), false),
              HasSubstr("reads before its asynchronous copy was waited for"));
}

// Waiting makes a copy visible to the thread that made it, not to others.
TESSERA_GLOBAL void ReadsAnothersCopy(View<const float> x, View<float> out) {
  TESSERA_SHARED(float, tile, 4 * 32);
  CpAsync16(tile, 4 * Lane(), x, 4 * Lane(), true);
  CpAsyncCommit();
  CpAsyncWait<0>();
  out.Set(Lane(), tile.Get(4 * (Lane() ^ 1)));
}

TEST_F(SimtExecutor, CatchesAnothersCopyReadWithoutBarrier) {
  alignas(16) float x[128] = {};
  std::vector<float> out(32);
  EXPECT_THAT(Running(ReadsAnothersCopy, {.threads = 32},
                  TESSERA_VIEW(static_cast<const float*>(x), 128), TESSERA_VIEW(out.data(), 32)),
              HasSubstr("tile["));
}

TESSERA_GLOBAL void BlocksWriteTheSame(View<float> out) { out.Set(ThreadIndex(), 1.0f); }

TEST_F(SimtExecutor, CatchesBlocksRacingAtGlobalMemory) {
  std::vector<float> out(kThreads);
  const auto view = TESSERA_VIEW(out.data(), kThreads);
  EXPECT_THAT(Running(BlocksWriteTheSame, {.x = 1, .threads = kThreads}, view), IsEmpty());
  EXPECT_THAT(Running(BlocksWriteTheSame, {.x = 2, .threads = kThreads}, view),
              AllOf(HasSubstr("block (1, 0, 0)"), HasSubstr("out.data()[0] (global)"),
                    HasSubstr("races with another thread's write")));
}

TESSERA_GLOBAL void ShiftInPlace(View<float> x) {
  const float next = x.Get((ThreadIndex() + 1) % kThreads);
  x.Set(ThreadIndex(), next);
}

TEST_F(SimtExecutor, CatchesThreadsRacingAtGlobalMemory) {
  std::vector<float> x(kThreads);
  EXPECT_THAT(Running(ShiftInPlace, {.threads = kThreads}, TESSERA_VIEW(x.data(), kThreads)),
              HasSubstr("(global): races with another thread's"));
}

TEST_F(SimtExecutor, RefusesLaunchesThatNoGpuTakes) {
  EXPECT_THAT(Running(TwoBarriers, {.threads = 33}), HasSubstr("33 threads per block"));
  EXPECT_THAT(Running(TwoBarriers, {.y = 65536, .threads = 32}), HasSubstr("no such grid"));
  EXPECT_THAT(Running(TwoBarriers, {.threads = 32, .shared_bytes = 300000}),
              HasSubstr("a block has at most"));
}

// -- launches as values -------------------------------------------------------------------------

std::vector<simt::Launched>* recorded = nullptr;

TEST_F(SimtExecutor, ASubmitterMayKeepLaunchesAndRunThemLater) {
  std::vector<simt::Launched> launches;
  recorded = &launches;
  simt::SetSubmitter([](Stream, simt::Launched launched) {
    recorded->push_back(std::move(launched));
    return 0;
  });
  std::vector<float> out(kThreads);
  const int error = Launch("Later", BlocksWriteTheSame, {.threads = kThreads}, nullptr,
                           TESSERA_VIEW(out.data(), kThreads));
  simt::SetSubmitter(nullptr);
  EXPECT_EQ(error, 0);
  EXPECT_EQ(out[0], 0.0f);
  ASSERT_EQ(launches.size(), 1u);
  EXPECT_THAT(simt::Execute(launches[0]), IsEmpty());
  EXPECT_EQ(out[0], 1.0f);
}

}  // namespace
}  // namespace tessera::kernels::cuda
