// Draws that stay on the device: two batches under way say what LookAtRows says, and the step
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

class DrawsTest : public testing::TestWithParam<std::string> {
 protected:
  struct Rows {
    std::vector<RowQuestion> questions;
    int64_t vocab = 0;
    Device::Buffer logits;  // (questions.size(), vocab)
    const float* data() const { return reinterpret_cast<const float*>(logits.get()); }
  };
  struct Said {
    std::vector<RowAnswer> answers;
    std::vector<RowCandidate> candidates;
  };

  Rows RowsOf(Device& device, std::vector<RowQuestion> questions, std::vector<float> logits) {
    const size_t bytes = logits.size() * sizeof(float);
    auto memory = device.Allocate(bytes);
    EXPECT_TRUE(memory.ok() && device.WriteBytes(logits.data(), bytes, memory->get()).ok());
    return {questions, static_cast<int64_t>(logits.size() / questions.size()), *std::move(memory)};
  }
  Rows RandomRows(Device& device, std::vector<RowQuestion> questions, int64_t vocab) {
    const auto count = static_cast<int64_t>(questions.size()) * vocab;
    return RowsOf(device, std::move(questions), RandomFloats(count, random_));
  }

  static void Start(Device& device, const Rows& rows) {
    const auto count = static_cast<int64_t>(rows.questions.size());
    ASSERT_TRUE(device.draws()->Begin(rows.questions).ok());
    // The first row alone, then the others, from where they lie.
    device.draws()->Draw(rows.data(), rows.vocab, kFirstId, 0, 1);
    device.draws()->Draw(rows.data() + rows.vocab, rows.vocab, kFirstId, 1, count - 1);
    ASSERT_TRUE(device.draws()->End().ok());
  }

  static Said Room(Device& device, const Rows& rows) {
    const size_t count = rows.questions.size();
    return {std::vector<RowAnswer>(count),
            std::vector<RowCandidate>(count * device.MaxRowCandidates())};
  }

  // What was said, once it is there.
  static Said Collect(Device& device, const Rows& rows) {
    Said said = Room(device, rows);
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start < kPatience) {
      auto arrived = device.draws()->Arrived();
      EXPECT_TRUE(arrived.ok()) << arrived.status();
      if (!arrived.ok()) return said;
      if (!*arrived) continue;
      EXPECT_TRUE(device.draws()->Collect(said.answers.data(), said.candidates.data()).ok());
      return said;
    }
    ADD_FAILURE() << "nothing arrived";
    return said;
  }

  static void ExpectAsLookAtRows(Device& device, const Rows& rows, const Said& said,
                                 const std::string& what) {
    Said looked = Room(device, rows);
    ASSERT_TRUE(device
                    .LookAtRows(rows.data(), rows.vocab, kFirstId, rows.questions,
                                looked.answers.data(), looked.candidates.data())
                    .ok());
    for (size_t r = 0; r < rows.questions.size(); ++r) {
      const std::string where = absl::StrCat(what, ", row ", r);
      const RowAnswer& answer = said.answers[r];
      const RowAnswer& expected = looked.answers[r];
      EXPECT_EQ(answer.finite, expected.finite) << where;
      if (!expected.finite) continue;
      EXPECT_EQ(answer.id, expected.id) << where;
      EXPECT_EQ(answer.logit, expected.logit) << where;
      EXPECT_EQ(answer.score, expected.score) << where;
      EXPECT_EQ(answer.greedy_id, expected.greedy_id) << where;
      EXPECT_EQ(answer.raw_mass, expected.raw_mass) << where;
      EXPECT_EQ(answer.scaled_mass, expected.scaled_mass) << where;
      for (int c = 0; c < rows.questions[r].num_candidates; ++c) {
        const size_t i = r * device.MaxRowCandidates() + c;
        EXPECT_EQ(said.candidates[i].id, looked.candidates[i].id) << where << ", place " << c;
      }
    }
  }

  std::mt19937 random_{4711};
};

TEST_P(DrawsTest, TwoBatchesUnderWaySayWhatLookAtRowsSays) {
  HostOps ops(DeviceOf(GetParam()));
  Device& device = ops.device();
  if (device.draws() == nullptr) GTEST_SKIP() << "this device keeps no draws";
  // Batches of different sizes, with and without candidates.
  std::vector<Rows> batches;
  for (int i = 0; i < 4; ++i) {
    std::vector<RowQuestion> questions(2 + 3 * i);
    for (size_t q = 0; q < questions.size(); ++q) {
      questions[q] = {.seed = q,
                      .position = i,
                      .temperature = q % 2 == 0 ? 0.0f : 0.8f,
                      .num_candidates = i % 2 == 0 ? 0 : static_cast<int>(q)};
    }
    batches.push_back(RandomRows(device, questions, 1000 + i));
  }
  std::vector<Said> said;
  Start(device, batches[0]);
  for (size_t i = 1; i < batches.size(); ++i) {
    Start(device, batches[i]);
    said.push_back(Collect(device, batches[i - 1]));
  }
  said.push_back(Collect(device, batches.back()));
  for (size_t i = 0; i < batches.size(); ++i) {
    ExpectAsLookAtRows(device, batches[i], said[i], absl::StrCat("batch ", i));
  }
}

TEST_P(DrawsTest, TheNextStepIsFedWhatWasDrawn) {
  HostOps ops(DeviceOf(GetParam()));
  Device& device = ops.device();
  if (device.draws() == nullptr) GTEST_SKIP() << "this device keeps no draws";
  const int64_t vocab = 37, cols = 32;
  const auto table = RandomWeights(DType::kQ8_0, vocab, cols, random_);
  // Largest logits: of tokens 5, 36, and none: that row is not finite.
  std::vector<float> logits(3 * vocab, 0.0f);
  logits[5] = logits[vocab + 36] = 1;
  logits[2 * vocab + 3] = std::numeric_limits<float>::quiet_NaN();
  const Rows rows = RowsOf(device, std::vector<RowQuestion>(3), logits);
  Start(device, rows);
  const std::vector<int32_t> ids = {-2, kFirstId + 7, -1, -3, -2, kFirstId};
  const std::vector<int> expected_rows = {36, 7, 5, -1, 36, 0};
  for (int twice = 0; twice < 2; ++twice) {  // the draws stay for whoever asks
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
  EXPECT_FALSE(Collect(device, rows).answers[2].finite);
}

TEST_P(DrawsTest, AnIdThatStandsForNoDrawEndsTheDevice) {
  HostOps ops(DeviceOf(GetParam()));
  Device& device = ops.device();
  if (device.draws() == nullptr) GTEST_SKIP() << "this device keeps no draws";
  const Rows rows = RandomRows(device, std::vector<RowQuestion>(3), 50);
  Start(device, rows);
  OwnedStep step;
  step.AddSequence(0, {-4}, {0});
  const absl::Status status = device.BeginStep(step.view()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  const std::string why = "token id -4; the draws before the step are 3";
  EXPECT_TRUE(std::string(status.message()).find(why) != std::string::npos) << status;
  EXPECT_EQ(device.Sync().ToString(), status.ToString());
}

TEST_P(DrawsTest, AThirdBatchUnderWayEndsTheDevice) {
  HostOps ops(DeviceOf(GetParam()));
  Device& device = ops.device();
  if (device.draws() == nullptr) GTEST_SKIP() << "this device keeps no draws";
  const Rows rows = RandomRows(device, std::vector<RowQuestion>(2), 50);
  Start(device, rows);
  Start(device, rows);
  EXPECT_EQ(device.draws()->Begin(rows.questions).code(), absl::StatusCode::kInternal);
}

// Two members of a group, each with half of the vocabulary; what the second one drew is carried
// over by hand.
class DrawGroupTest : public DrawsTest {
 protected:
  static constexpr int64_t kHalf = 37;
  static constexpr int64_t kMostRows = 8;

  // Makes `device` draw in a group of two over memory of its own. `carry`: from its part to all.
  Device::Buffer Join(Device& device, std::function<void(std::vector<std::byte>& all)> carry) {
    const size_t bytes = device.draws()->GroupBytes(2, kMostRows);
    auto memory = device.Allocate(bytes);
    EXPECT_TRUE(memory.ok()) << memory.status();
    DrawGroup group{.size = 2, .memory = memory->get(), .gather = {}};
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
    EXPECT_TRUE(device.draws()->Reserve(kMostRows, std::move(group)).ok());
    return *std::move(memory);
  }

  static void Draw(Device& device, const Rows& rows, int32_t first_id) {
    const auto count = static_cast<int64_t>(rows.questions.size());
    ASSERT_TRUE(device.draws()->Begin(rows.questions).ok());
    device.draws()->Draw(rows.data(), rows.vocab, first_id, 0, count);
    ASSERT_TRUE(device.draws()->End().ok());
  }
};

TEST_P(DrawGroupTest, FeedsTheBestOfAllAndTellsWhatEachDrew) {
  HostOps first(DeviceOf(GetParam())), second(DeviceOf(GetParam()));
  if (first.device().draws() == nullptr) GTEST_SKIP() << "this device keeps no draws";
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
  std::vector<RowQuestion> questions(5);
  questions[3] = {.seed = 3, .position = 9, .temperature = 0.7f, .num_candidates = 4};
  questions[4] = {.num_candidates = 2};
  std::vector<float> a(5 * kHalf, 0.0f), b(5 * kHalf, 0.0f);
  a[5] = b[kHalf + 6] = a[2 * kHalf + 7] = b[2 * kHalf + 8] = 1;
  for (int64_t i = 0; i < kHalf; ++i) a[3 * kHalf + i] = 0.1f * i, b[3 * kHalf + i] = 0.1f * i;
  b[4 * kHalf + 9] = std::numeric_limits<float>::infinity();
  const Rows of_first = RowsOf(first.device(), questions, a);
  const Rows of_second = RowsOf(second.device(), questions, b);
  Draw(second.device(), of_second, kHalf);
  Draw(first.device(), of_first, 0);

  Said said = {std::vector<RowAnswer>(10),
               std::vector<RowCandidate>(10 * first.device().MaxRowCandidates())};
  // Row r of the table is all r + 1.
  std::vector<float> table(2 * kHalf * 32);
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<float>(i / 32 + 1);
  const auto* bytes = reinterpret_cast<const uint8_t*>(table.data());
  const auto embedded =
      first.Embed({bytes, DType::kF32, 2 * kHalf, 32}, {-1, -2, -3, -4, -5, 11}, 0);
  ASSERT_TRUE(*first.device().draws()->Arrived());
  ASSERT_TRUE(first.device().draws()->Collect(said.answers.data(), said.candidates.data()).ok());
  const RowAnswer& sampled_first = said.answers[3];
  const RowAnswer& sampled_second = said.answers[8];
  ASSERT_TRUE(sampled_first.score != sampled_second.score);
  const int32_t sampled =
      sampled_first.score > sampled_second.score ? sampled_first.id : sampled_second.id;
  const std::vector<float> fed = {5, kHalf + 6, 7, static_cast<float>(sampled), -1, 11};
  for (size_t t = 0; t < fed.size(); ++t) EXPECT_EQ(embedded[t * 32], fed[t] + 1) << "token " << t;

  const int most = first.device().MaxRowCandidates();
  for (int member : {0, 1}) {
    const Rows& rows = member == 0 ? of_first : of_second;
    const Said part = {{said.answers.begin() + 5 * member, said.answers.begin() + 5 * member + 5},
                       {said.candidates.begin() + 5 * most * member,
                        said.candidates.begin() + 5 * most * (member + 1)}};
    Said looked = Room(first.device(), rows);
    HostOps& ops = member == 0 ? first : second;
    ASSERT_TRUE(ops.device()
                    .LookAtRows(rows.data(), rows.vocab, member == 0 ? 0 : kHalf, rows.questions,
                                looked.answers.data(), looked.candidates.data())
                    .ok());
    for (size_t r = 0; r < 5; ++r) {
      EXPECT_EQ(part.answers[r].finite, looked.answers[r].finite) << member << ", " << r;
      if (!looked.answers[r].finite) continue;
      EXPECT_EQ(part.answers[r].id, looked.answers[r].id) << member << ", " << r;
      EXPECT_EQ(part.answers[r].score, looked.answers[r].score) << member << ", " << r;
      EXPECT_EQ(part.answers[r].raw_mass, looked.answers[r].raw_mass) << member << ", " << r;
      for (int c = 0; c < questions[r].num_candidates; ++c) {
        EXPECT_EQ(part.candidates[r * most + c].id, looked.candidates[r * most + c].id)
            << member << ", " << r << ", " << c;
      }
    }
  }
  EXPECT_FALSE(said.answers[9].finite);
}

TEST_P(DrawGroupTest, MoreRowsThanThereIsRoomForEndTheDevice) {
  HostOps ops(DeviceOf(GetParam()));
  if (ops.device().draws() == nullptr) GTEST_SKIP() << "this device keeps no draws";
  const auto memory = Join(ops.device(), [](auto&) {});
  const absl::Status status =
      ops.device().draws()->Begin(std::vector<RowQuestion>(kMostRows + 1));
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(std::string(status.message()).find("at most 8 rows at once, got 9") !=
              std::string::npos)
      << status;
}

INSTANTIATE_TEST_SUITE_P(, DrawGroupTest, testing::ValuesIn(TestDevices()),
                         [](const auto& test) { return test.param; });
INSTANTIATE_TEST_SUITE_P(, DrawsTest, testing::ValuesIn(TestDevices()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace tessera::kernels
