// Samples that stay on the device: two batches under way say what SampleRows says, and the step
// behind is fed the tokens.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/reference.h"
#include "tests/kernels/host_ops.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels {
namespace {

constexpr std::chrono::seconds kPatience(30);
constexpr int32_t kFirstId = 100;

class SamplingTest : public testing::TestWithParam<std::string> {
 protected:
  struct Rows {
    std::vector<SampleRow> asked;
    int64_t vocab = 0;
    Device::Buffer logits;  // (asked.size(), vocab)
    const float* data() const { return reinterpret_cast<const float*>(logits.get()); }
  };
  struct Said {
    std::vector<SampledRow> sampled;
    std::vector<Candidate> candidates;
  };

  Rows RowsOf(Device& device, std::vector<SampleRow> asked, std::vector<float> logits) {
    const size_t bytes = logits.size() * sizeof(float);
    auto memory = device.Allocate(bytes);
    EXPECT_TRUE(memory.ok() && device.WriteBytes(logits.data(), bytes, memory->get()).ok());
    return {asked, static_cast<int64_t>(logits.size() / asked.size()), *std::move(memory)};
  }
  Rows RandomRows(Device& device, std::vector<SampleRow> asked, int64_t vocab) {
    const auto count = static_cast<int64_t>(asked.size()) * vocab;
    return RowsOf(device, std::move(asked), RandomFloats(count, random_));
  }

  static void Start(Device& device, const Rows& rows) {
    const auto count = static_cast<int64_t>(rows.asked.size());
    ASSERT_TRUE(device.sampling_queue()->Begin(rows.asked).ok());
    // The first row alone, then the others, from where they lie.
    device.sampling_queue()->Sample(rows.data(), rows.vocab, kFirstId, 0, 1);
    device.sampling_queue()->Sample(rows.data() + rows.vocab, rows.vocab, kFirstId, 1, count - 1);
    ASSERT_TRUE(device.sampling_queue()->End().ok());
  }

  static Said Room(Device& device, const Rows& rows) {
    const size_t count = rows.asked.size();
    return {std::vector<SampledRow>(count), std::vector<Candidate>(count * device.MaxCandidates())};
  }

  // What was said, once it is there.
  static Said Collect(Device& device, const Rows& rows) {
    Said said = Room(device, rows);
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start < kPatience) {
      auto arrived = device.sampling_queue()->Arrived();
      EXPECT_TRUE(arrived.ok()) << arrived.status();
      if (!arrived.ok()) return said;
      if (!*arrived) continue;
      EXPECT_TRUE(
          device.sampling_queue()->Collect(said.sampled.data(), said.candidates.data()).ok());
      return said;
    }
    ADD_FAILURE() << "nothing arrived";
    return said;
  }

  static void ExpectAsSampleRows(Device& device, const Rows& rows, const Said& said,
                                 const std::string& what) {
    Said looked = Room(device, rows);
    ASSERT_TRUE(device
                    .SampleRows(rows.data(), rows.vocab, kFirstId, rows.asked,
                                looked.sampled.data(), looked.candidates.data())
                    .ok());
    for (size_t r = 0; r < rows.asked.size(); ++r) {
      const std::string where = absl::StrCat(what, ", row ", r);
      const SampledRow& found = said.sampled[r];
      const SampledRow& expected = looked.sampled[r];
      EXPECT_EQ(found.finite(), expected.finite()) << where;
      if (!expected.finite()) continue;
      EXPECT_EQ(found.id, expected.id) << where;
      EXPECT_EQ(found.logit, expected.logit) << where;
      EXPECT_EQ(found.score, expected.score) << where;
      EXPECT_EQ(found.greedy_id, expected.greedy_id) << where;
      EXPECT_EQ(found.raw_mass, expected.raw_mass) << where;
      EXPECT_EQ(found.scaled_mass, expected.scaled_mass) << where;
      for (int c = 0; c < rows.asked[r].num_candidates; ++c) {
        const size_t i = r * device.MaxCandidates() + c;
        EXPECT_EQ(said.candidates[i].id, looked.candidates[i].id) << where << ", place " << c;
      }
    }
  }

  std::mt19937 random_{4711};
};

TEST_P(SamplingTest, TwoBatchesUnderWaySayWhatSampleRowsSays) {
  HostOps ops(DeviceOf(GetParam()));
  Device& device = ops.device();
  if (device.sampling_queue() == nullptr) GTEST_SKIP() << "this device keeps no samples";
  // Batches of different sizes, with and without candidates.
  std::vector<Rows> batches;
  for (int i = 0; i < 4; ++i) {
    std::vector<SampleRow> asked(2 + 3 * i);
    for (size_t q = 0; q < asked.size(); ++q) {
      asked[q] = {.seed = q,
                  .position = i,
                  .temperature = q % 2 == 0 ? 0.0f : 0.8f,
                  .num_candidates = i % 2 == 0 ? 0 : static_cast<int>(q)};
    }
    batches.push_back(RandomRows(device, asked, 1000 + i));
  }
  std::vector<Said> said;
  Start(device, batches[0]);
  for (size_t i = 1; i < batches.size(); ++i) {
    Start(device, batches[i]);
    said.push_back(Collect(device, batches[i - 1]));
  }
  said.push_back(Collect(device, batches.back()));
  for (size_t i = 0; i < batches.size(); ++i) {
    ExpectAsSampleRows(device, batches[i], said[i], absl::StrCat("batch ", i));
  }
}

TEST_P(SamplingTest, TheNextStepIsGivenWhatWasSampled) {
  HostOps ops(DeviceOf(GetParam()));
  Device& device = ops.device();
  if (device.sampling_queue() == nullptr) GTEST_SKIP() << "this device keeps no samples";
  const int64_t vocab = 37, cols = 32;
  const auto table = RandomWeights(DType::kQ8_0, vocab, cols, random_);
  // Largest logits: of tokens 5, 36, and none: that row is not finite.
  std::vector<float> logits(3 * vocab, 0.0f);
  logits[5] = logits[vocab + 36] = 1;
  logits[2 * vocab + 3] = std::numeric_limits<float>::quiet_NaN();
  const Rows rows = RowsOf(device, std::vector<SampleRow>(3), logits);
  Start(device, rows);
  const std::vector<int32_t> ids = {-2, kFirstId + 7, -1, -3, -2, kFirstId};
  const std::vector<int> expected_rows = {36, 7, 5, -1, 36, 0};
  for (int twice = 0; twice < 2; ++twice) {  // the samples stay for whoever asks
    const auto out = ops.Embed({table.data(), DType::kQ8_0, vocab, cols}, ids, kFirstId);
    for (size_t t = 0; t < ids.size(); ++t) {
      std::vector<float> expected(cols, 0.0f);
      if (expected_rows[t] >= 0) {
        reference::DequantizeRow(DType::kQ8_0,
                                 &table[expected_rows[t] * RowBytes(DType::kQ8_0, cols)], 0, cols,
                                 expected.data());
      }
      expected = ops.Rounded(expected);
      ExpectSameBits(&out[t * cols], expected.data(), cols, absl::StrCat("id ", ids[t]));
    }
  }
  EXPECT_FALSE(Collect(device, rows).sampled[2].finite());
}

TEST_P(SamplingTest, AnIdThatStandsForNoSampledRowEndsTheDevice) {
  HostOps ops(DeviceOf(GetParam()));
  Device& device = ops.device();
  if (device.sampling_queue() == nullptr) GTEST_SKIP() << "this device keeps no samples";
  const Rows rows = RandomRows(device, std::vector<SampleRow>(3), 50);
  Start(device, rows);
  OwnedStep step;
  step.AddSequence(0, {-4}, {0});
  const absl::Status status = device.BeginStep(step.view()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  const std::string why = "token id -4; the rows sampled before the step are 3";
  EXPECT_TRUE(std::string(status.message()).find(why) != std::string::npos) << status;
  EXPECT_EQ(device.Sync().ToString(), status.ToString());
}

TEST_P(SamplingTest, AThirdBatchUnderWayEndsTheDevice) {
  HostOps ops(DeviceOf(GetParam()));
  Device& device = ops.device();
  if (device.sampling_queue() == nullptr) GTEST_SKIP() << "this device keeps no samples";
  const Rows rows = RandomRows(device, std::vector<SampleRow>(2), 50);
  Start(device, rows);
  Start(device, rows);
  EXPECT_EQ(device.sampling_queue()->Begin(rows.asked).code(), absl::StatusCode::kInternal);
}

// Two members of a group, each with half of the vocabulary; what the second one sampled is carried
// over by hand.
class SamplingGroupTest : public SamplingTest {
 protected:
  static constexpr int64_t kHalf = 37;
  static constexpr int64_t kMostRows = 8;

  // Makes `device` sample in a group of two over memory of its own. `carry`: from its part to all.
  Device::Buffer Join(Device& device, std::function<void(std::vector<std::byte>& all)> carry) {
    const size_t bytes = device.sampling_queue()->GroupBytes(2, kMostRows);
    auto memory = device.Allocate(bytes);
    EXPECT_TRUE(memory.ok()) << memory.status();
    SamplingGroup group{.size = 2, .memory = memory->get(), .gather = {}};
    group.gather = [&device, carry, begin = memory->get(), end = memory->get() + bytes](
                       const std::byte* mine, size_t part, std::byte* all) {
      EXPECT_TRUE(mine >= begin && mine + part <= end && all >= begin && all + 2 * part <= end);
      EXPECT_TRUE(mine + part <= all || all + 2 * part <= mine) << "it would gather over its own";
      std::vector<std::byte> parts(part);
      EXPECT_TRUE(device.ReadBytes(mine, part, parts.data()).ok());
      carry(parts);
      EXPECT_EQ(parts.size(), 2 * part);
      return device.WriteBytes(parts.data(), 2 * part, all);
    };
    EXPECT_TRUE(device.sampling_queue()->Reserve(kMostRows, std::move(group)).ok());
    return *std::move(memory);
  }

  static void Sample(Device& device, const Rows& rows, int32_t first_id) {
    const auto count = static_cast<int64_t>(rows.asked.size());
    ASSERT_TRUE(device.sampling_queue()->Begin(rows.asked).ok());
    device.sampling_queue()->Sample(rows.data(), rows.vocab, first_id, 0, count);
    ASSERT_TRUE(device.sampling_queue()->End().ok());
  }
};

TEST_P(SamplingGroupTest, FeedsTheBestOfAllAndTellsWhatEachDrew) {
  HostOps first(DeviceOf(GetParam())), second(DeviceOf(GetParam()));
  if (first.device().sampling_queue() == nullptr) GTEST_SKIP() << "this device keeps no samples";
  std::vector<std::byte> carried;
  const auto memory_of_second = Join(second.device(), [&](std::vector<std::byte>& all) {
    carried = all;
    all.resize(2 * all.size());
  });
  const auto memory_of_first = Join(first.device(), [&](std::vector<std::byte>& all) {
    all.insert(all.end(), carried.begin(), carried.end());
  });
  // Greedy: the first's, the second's, a tie; then sampled; then a row that is not finite with the
  // second. The last two with candidates.
  std::vector<SampleRow> asked(5);
  asked[3] = {.seed = 3, .position = 9, .temperature = 0.7f, .num_candidates = 4};
  asked[4] = {.num_candidates = 2};
  std::vector<float> a(5 * kHalf, 0.0f), b(5 * kHalf, 0.0f);
  a[5] = b[kHalf + 6] = a[2 * kHalf + 7] = b[2 * kHalf + 8] = 1;
  for (int64_t i = 0; i < kHalf; ++i) a[3 * kHalf + i] = 0.1f * i, b[3 * kHalf + i] = 0.1f * i;
  b[4 * kHalf + 9] = std::numeric_limits<float>::infinity();
  const Rows of_first = RowsOf(first.device(), asked, a);
  const Rows of_second = RowsOf(second.device(), asked, b);
  Sample(second.device(), of_second, kHalf);
  Sample(first.device(), of_first, 0);

  Said said = {std::vector<SampledRow>(10),
               std::vector<Candidate>(10 * first.device().MaxCandidates())};
  // Row r of the table is all r + 1.
  std::vector<float> table(2 * kHalf * 32);
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<float>(i / 32 + 1);
  const auto* bytes = reinterpret_cast<const uint8_t*>(table.data());
  const auto embedded =
      first.Embed({bytes, DType::kF32, 2 * kHalf, 32}, {-1, -2, -3, -4, -5, 11}, 0);
  ASSERT_TRUE(*first.device().sampling_queue()->Arrived());
  ASSERT_TRUE(
      first.device().sampling_queue()->Collect(said.sampled.data(), said.candidates.data()).ok());
  const SampledRow& sampled_first = said.sampled[3];
  const SampledRow& sampled_second = said.sampled[8];
  ASSERT_TRUE(sampled_first.score != sampled_second.score);
  const int32_t sampled =
      sampled_first.score > sampled_second.score ? sampled_first.id : sampled_second.id;
  const std::vector<float> fed = {5, kHalf + 6, 7, static_cast<float>(sampled), -1, 11};
  for (size_t t = 0; t < fed.size(); ++t) EXPECT_EQ(embedded[t * 32], fed[t] + 1) << "token " << t;

  const int most = first.device().MaxCandidates();
  for (int member : {0, 1}) {
    const Rows& rows = member == 0 ? of_first : of_second;
    const Said part = {{said.sampled.begin() + 5 * member, said.sampled.begin() + 5 * member + 5},
                       {said.candidates.begin() + 5 * most * member,
                        said.candidates.begin() + 5 * most * (member + 1)}};
    Said looked = Room(first.device(), rows);
    HostOps& ops = member == 0 ? first : second;
    ASSERT_TRUE(ops.device()
                    .SampleRows(rows.data(), rows.vocab, member == 0 ? 0 : kHalf, rows.asked,
                                looked.sampled.data(), looked.candidates.data())
                    .ok());
    for (size_t r = 0; r < 5; ++r) {
      EXPECT_EQ(part.sampled[r].finite(), looked.sampled[r].finite()) << member << ", " << r;
      if (!looked.sampled[r].finite()) continue;
      EXPECT_EQ(part.sampled[r].id, looked.sampled[r].id) << member << ", " << r;
      EXPECT_EQ(part.sampled[r].score, looked.sampled[r].score) << member << ", " << r;
      EXPECT_EQ(part.sampled[r].raw_mass, looked.sampled[r].raw_mass) << member << ", " << r;
      for (int c = 0; c < asked[r].num_candidates; ++c) {
        EXPECT_EQ(part.candidates[r * most + c].id, looked.candidates[r * most + c].id)
            << member << ", " << r << ", " << c;
      }
    }
  }
  EXPECT_FALSE(said.sampled[9].finite());
}

TEST_P(SamplingGroupTest, MoreRowsThanThereIsRoomForEndTheDevice) {
  HostOps ops(DeviceOf(GetParam()));
  if (ops.device().sampling_queue() == nullptr) GTEST_SKIP() << "this device keeps no samples";
  const auto memory = Join(ops.device(), [](auto&) {});
  const absl::Status status =
      ops.device().sampling_queue()->Begin(std::vector<SampleRow>(kMostRows + 1));
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(std::string(status.message()).find("at most 8 rows at once, got 9") !=
              std::string::npos)
      << status;
}

INSTANTIATE_TEST_SUITE_P(, SamplingGroupTest, testing::ValuesIn(TestDevices()),
                         [](const auto& test) { return test.param; });
INSTANTIATE_TEST_SUITE_P(, SamplingTest, testing::ValuesIn(TestDevices()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace tessera::kernels
