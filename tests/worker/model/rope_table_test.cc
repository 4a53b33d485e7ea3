// Rotary angles against those of transformers' modeling_rope_utils (v5.23, computed once).
#include "worker/model/rope_table.h"

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tessera::worker {
namespace {

using testing::HasSubstr;

struct Rope {
  v1::RopeConfig config;
  int rotary_dim = 0;

  v1::RopeScaling& scaling() { return *config.mutable_scaling(); }
};

absl::StatusOr<RopeAngles> AnglesOf(const Rope& rope) {
  return ComputeRopeAngles(rope.config, rope.rotary_dim, /*max_positions=*/1024);
}

Rope Make(int rotary_dim, float theta, v1::RopeScaling::Kind kind) {
  Rope rope = {.config = {}, .rotary_dim = rotary_dim};
  rope.config.set_theta(theta);
  rope.scaling().set_kind(kind);
  rope.scaling().set_factor(4);
  return rope;
}

void ExpectAngles(const Rope& rope, double magnitude,
                  const std::vector<double>& expected) {
  const auto angles = AnglesOf(rope);
  ASSERT_TRUE(angles.ok()) << angles.status();
  EXPECT_NEAR(angles->magnitude, magnitude, 1e-8);
  ASSERT_EQ(angles->per_position.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    // transformers computes the unscaled angles in float32.
    EXPECT_NEAR(angles->per_position[i] / expected[i], 1, 1e-6) << "pair " << i;
  }
}

TEST(RopeTableTest, Unscaled) {
  ExpectAngles(Make(8, 10000, v1::RopeScaling::KIND_NONE), 1, {1, 0.1, 0.01, 0.001});
}

TEST(RopeTableTest, Linear) {
  ExpectAngles(Make(16, 10000, v1::RopeScaling::KIND_LINEAR), 1,
               {0.25, 0.079056941, 0.0250000004, 0.00790569466, 0.00249999994, 0.000790569466,
                0.000250000012, 7.90569466e-05});
}

Rope Llama3(float theta, int original) {
  Rope rope = Make(16, theta, v1::RopeScaling::KIND_LLAMA3);
  v1::RopeScaling& scaling = rope.scaling();
  scaling.set_factor(8);
  scaling.set_low_freq_factor(1);
  scaling.set_high_freq_factor(4);
  scaling.set_original_max_positions(original);
  return rope;
}

TEST(RopeTableTest, Llama3) {
  ExpectAngles(Llama3(500000, 8192), 1,
               {1.0, 0.193922758, 0.0376060307, 0.00729266508, 0.000524846022, 3.42810235e-05,
                6.64786967e-06, 1.28917316e-06});
  ExpectAngles(Llama3(10000, 64), 1,
               {1.0, 0.244384587, 0.0130422562, 0.00395284733, 0.00124999997, 0.000395284733,
                0.000125000006, 3.95284733e-05});
}

TEST(RopeTableTest, Yarn) {
  Rope rope = Make(32, 10000, v1::RopeScaling::KIND_YARN);
  rope.scaling().set_original_max_positions(2048);
  const std::vector<double> expected = {
      1.0,           0.562341332,    0.316227764,    0.177827939,    0.100000001,
      0.0502090417,  0.02484647,     0.0120668961,   0.00571428565,  0.0026108704,
      0.00112938497, 0.000444569858, 0.000250000012, 0.000140585325, 7.90569466e-05,
      4.44569851e-05};
  ExpectAngles(rope, 1.138629436111989, expected);
  rope.scaling().set_beta_fast(32);
  rope.scaling().set_beta_slow(1);
  ExpectAngles(rope, 1.138629436111989, expected);
}

TEST(RopeTableTest, YarnWithItsOwnBetasAndAttentionFactor) {
  Rope rope = Make(32, 1000000, v1::RopeScaling::KIND_YARN);
  v1::RopeScaling& scaling = rope.scaling();
  scaling.set_factor(8);
  scaling.set_original_max_positions(4096);
  scaling.set_attention_factor(1.25);
  scaling.set_beta_fast(16);
  scaling.set_beta_slow(2);
  ExpectAngles(rope, 1.25,
               {1.0, 0.421696514, 0.177827939, 0.0749894157, 0.0316227786, 0.00944577716,
                0.00234308885, 0.000296421727, 0.000125000006, 5.2712061e-05, 2.22284925e-05,
                9.37367804e-06, 3.95284678e-06, 1.66690177e-06, 7.02926684e-07, 2.96421717e-07});
}

TEST(RopeTableTest, FrequencyFactorsDivide) {
  Rope rope = Make(8, 10000, v1::RopeScaling::KIND_FREQUENCY_FACTORS);
  for (float factor : {1.0f, 2.0f, 4.0f, 8.0f}) {
    rope.scaling().add_frequency_factors(factor);
  }
  ExpectAngles(rope, 1, {1, 0.05, 0.0025, 0.000125});
}

TEST(RopeTableTest, TheTableIsCosAndSinOfPositionTimesAngle) {
  Rope rope = Make(6, 10000, v1::RopeScaling::KIND_YARN);
  rope.scaling().set_original_max_positions(256);
  const auto angles = AnglesOf(rope);
  ASSERT_TRUE(angles.ok());
  const std::vector<int32_t> positions = {17, 0, 1, 999, 1 << 23};
  std::vector<float> cos(positions.size() * 3), sin(cos.size());
  FillRopeTable(*angles, positions, cos.data(), sin.data());
  for (size_t row = 0; row < positions.size(); ++row) {
    for (int pair = 0; pair < 3; ++pair) {
      const double angle = positions[row] * angles->per_position[pair];
      EXPECT_FLOAT_EQ(cos[row * 3 + pair], std::cos(angle) * angles->magnitude);
      EXPECT_FLOAT_EQ(sin[row * 3 + pair], std::sin(angle) * angles->magnitude);
    }
  }
}

TEST(RopeTableTest, RefusesNumbersThatMakeNoAngles) {
  auto expect_refused = [](const Rope& rope, const char* field) {
    const auto angles = AnglesOf(rope);
    EXPECT_EQ(angles.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(angles.status().message()), HasSubstr(field));
  };
  expect_refused(Make(8, 0, v1::RopeScaling::KIND_NONE), "theta");
  expect_refused(Make(8, std::nanf(""), v1::RopeScaling::KIND_NONE), "theta");
  Rope rope = Make(8, 10000, v1::RopeScaling::KIND_LINEAR);
  rope.scaling().set_factor(0);
  expect_refused(rope, "factor");
  rope = Llama3(10000, 64);
  rope.scaling().set_high_freq_factor(1);
  expect_refused(rope, "high_freq_factor");
  rope = Make(8, 10000, v1::RopeScaling::KIND_FREQUENCY_FACTORS);
  rope.scaling().add_frequency_factors(1);
  expect_refused(rope, "expected 4 values, got 1");
}

}  // namespace
}  // namespace tessera::worker
