// What clients are shown of a rank is what the plan says of it, field by field.
#include "coordinator/plan/rank_part.h"

#include "gtest/gtest.h"
#include "coordinator/plan/shard_planner.h"
#include "coordinator/simulate/example_models.h"

namespace tessera::coordinator {
namespace {

// The wire form of both is the same as long as they have the same fields with the same numbers: a
// field that is added to one alone shows here.
TEST(RankPartTest, SaysWhatThePlanSays) {
  const auto plan = PlanShards(tessera::testing::SmolLm2(),
                               {.tensor_parallel = 2, .pipeline_parallel = 2});
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (const v1::RankShard& shard : plan->ranks()) {
    const v1::RankPart part = RankPartOf(shard);
    EXPECT_EQ(part.SerializeAsString(), shard.SerializeAsString()) << part.ShortDebugString();
    EXPECT_EQ(part.kinds(0).kv_heads().end(), shard.kinds(0).kv_heads().end());
    EXPECT_EQ(part.weight_bytes(), shard.weight_bytes());
  }
  EXPECT_EQ(v1::RankPart::descriptor()->field_count(), v1::RankShard::descriptor()->field_count());
}

TEST(RankPartTest, TimesAreThoseReported) {
  v1::StepTimes times;
  times.set_steps(1);
  times.set_computing_micros(2);
  times.set_waiting_micros(3);
  times.set_transferring_micros(4);
  times.set_idle_micros(5);
  times.set_late_micros(6);
  EXPECT_EQ(RankTimesOf(times).SerializeAsString(), times.SerializeAsString());
  EXPECT_EQ(v1::RankTimes::descriptor()->field_count(), v1::StepTimes::descriptor()->field_count());
}

}  // namespace
}  // namespace tessera::coordinator
