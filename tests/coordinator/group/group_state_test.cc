#include "coordinator/group/group_state.h"

#include <gtest/gtest.h>

namespace tessera::coordinator {
namespace {

v1::ShardPlan TwoRanks() {
  v1::ShardPlan plan;
  plan.set_tensor_parallel_size(2);
  plan.set_pipeline_parallel_size(1);
  plan.set_num_kv_blocks(64);
  for (int rank = 0; rank < 2; ++rank) {
    plan.add_ranks()->set_world_rank(rank);
    plan.mutable_ranks(rank)->set_weight_bytes(100 * (rank + 1));
  }
  return plan;
}

TEST(GroupStateTest, ShowsThePlanAndWhatTheRanksSaid) {
  GroupState state;
  EXPECT_EQ(state.Snapshot().ranks_size(), 0);
  state.SetPlan("m", TwoRanks());
  EXPECT_EQ(state.Snapshot().state(), v1::GroupStatus::STATE_LOADING);
  EXPECT_EQ(state.Snapshot().kv_blocks_total(), 64);
  EXPECT_EQ(state.progress().bytes_total, 300);

  v1::RankReport report;
  report.set_world_rank(1);
  report.set_pid(77);
  report.set_bytes_loaded(50);
  report.set_bytes_total(210);
  report.set_phase(v1::RankReport::PHASE_LOADING);
  ASSERT_TRUE(state.AddReport(report).ok());
  EXPECT_EQ(state.progress().bytes_loaded, 50);
  EXPECT_EQ(state.progress().bytes_total, 310);
  EXPECT_FALSE(state.Snapshot().ranks(1).serving());

  report.set_phase(v1::RankReport::PHASE_SERVING);
  ASSERT_TRUE(state.AddReport(report).ok());
  state.SetReady();
  const v1::GroupStatus serving = state.Snapshot();
  EXPECT_EQ(serving.state(), v1::GroupStatus::STATE_SERVING);
  EXPECT_TRUE(serving.ranks(1).serving());
  EXPECT_FALSE(serving.ranks(0).serving());
  EXPECT_EQ(serving.ranks(1).pid(), 77);
  EXPECT_EQ(serving.ranks(1).shard().weight_bytes(), 200);
}

TEST(GroupStateTest, RefusesRanksOutsideThePlan) {
  GroupState state;
  v1::RankReport report;
  EXPECT_FALSE(state.AddReport(report).ok()) << "no plan yet";
  state.SetPlan("m", TwoRanks());
  for (const int rank : {-1, 2}) {
    report.set_world_rank(rank);
    EXPECT_EQ(state.AddReport(report).code(), absl::StatusCode::kInvalidArgument) << rank;
  }
}

TEST(GroupStateTest, RemembersWhyAGroupWasLostUntilTheNextOne) {
  GroupState state;
  state.SetPlan("m", TwoRanks());
  state.SetReady();
  state.SetLost(absl::UnavailableError("rank 1 died"));
  EXPECT_EQ(state.Snapshot().state(), v1::GroupStatus::STATE_FAILED);
  EXPECT_EQ(state.Snapshot().error(), "rank 1 died");
  state.SetPlan("m", TwoRanks());
  EXPECT_EQ(state.Snapshot().state(), v1::GroupStatus::STATE_LOADING);
  EXPECT_EQ(state.Snapshot().error(), "");
  state.SetLost(absl::OkStatus());
  EXPECT_EQ(state.Snapshot().state(), v1::GroupStatus::STATE_STARTING);
}

}  // namespace
}  // namespace tessera::coordinator
