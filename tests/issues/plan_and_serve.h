// What `tessera plan` accepts, `tessera serve` must serve: a file goes the way of both.
//
//   const Served served = PlanAndServe(gguf.Build());
//   ASSERT_NE(served.tokenizer, nullptr);
#ifndef TESSERA_TESTS_ISSUES_PLAN_AND_SERVE_H_
#define TESSERA_TESTS_ISSUES_PLAN_AND_SERVE_H_

#include <memory>
#include <string>

#include "coordinator/plan/shard_planner.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "gtest/gtest.h"
#include "proto/model/check_plan.h"
#include "tests/worker/files/test_files.h"
#include "worker/files/model_file.h"
#include "worker/model/shard_slices.h"

namespace tessera::testing {

struct Served {
  v1::ModelDescription description;
  std::unique_ptr<coordinator::Tokenizer> tokenizer;  // null where anything refused
};

// Describes, plans for some layouts, checks each plan and reads every slice as each of its ranks
// does, and makes the coordinator's tokenizer. Every refusal is a failure of the test.
inline Served PlanAndServe(const std::string& gguf_bytes) {
  Served served;
  const worker::testing::TempFolder folder;
  const auto file =
      worker::OpenModel(folder.Write("model.gguf", gguf_bytes), worker::LoadFormat::kAuto);
  if (!file.ok()) {
    ADD_FAILURE() << file.status();
    return served;
  }
  served.description = (*file)->description();
  for (const auto& [tp, pp] : {std::pair(1, 1), std::pair(3, 1), std::pair(2, 2)}) {
    const auto plan = coordinator::PlanShards(
        served.description, {.tensor_parallel = tp, .pipeline_parallel = pp});
    if (!plan.ok()) {
      ADD_FAILURE() << plan.status();
      continue;
    }
    for (const v1::RankShard& shard : plan->ranks()) {
      EXPECT_EQ(model::CheckPlan(served.description, *plan, shard.world_rank(), tp * pp),
                absl::OkStatus());
      for (const v1::TensorDescription& tensor : served.description.tensors()) {
        const auto slice = worker::SliceOf(shard, tensor, served.description.architecture());
        if (!slice) continue;
        std::string bytes(slice->bytes, '\0');
        EXPECT_EQ((*file)->ReadSlice(tensor.name(), slice->row_begin, slice->row_end,
                                     slice->col_begin, slice->col_end, bytes.data()),
                  absl::OkStatus());
      }
    }
  }
  auto tokenizer = coordinator::Tokenizer::Create(served.description.tokenizer());
  EXPECT_EQ(tokenizer.status(), absl::OkStatus());
  if (tokenizer.ok()) served.tokenizer = *std::move(tokenizer);
  return served;
}

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_ISSUES_PLAN_AND_SERVE_H_
