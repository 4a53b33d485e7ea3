// A whole worker group as threads of one process: every rank a RankEngine over a thread
// communicator (a null one when the plan has one rank). For tests and debugging.
//
//   GenerationScript script(plan, requests, {});
//   EXPECT_TRUE(RunInProcessGroup(*file, plan, &script, {}).ok());
#ifndef TESSERA_TESTS_WORKER_ENGINE_IN_PROCESS_GROUP_H_
#define TESSERA_TESTS_WORKER_ENGINE_IN_PROCESS_GROUP_H_

#include <vector>

#include "absl/status/status.h"
#include "tessera/v1/plan.pb.h"
#include "worker/comm/communicator.h"
#include "worker/engine/rank_engine.h"
#include "worker/files/model_file.h"

namespace tessera::worker {

struct InProcessGroupOptions {
  RankEngineOptions engine;
  CommunicatorOptions communicator;
};

// Creates the group's engines, serves until the channel ends the group or a rank fails, and joins
// all threads. Element i is how world rank i ended. The channel is called on rank 0's thread.
std::vector<absl::Status> ServeInProcess(const ModelFile& file, const v1::ShardPlan& plan,
                                         StepChannel* channel,
                                         const InProcessGroupOptions& options);

// The same, reduced to the first failure of the lowest rank.
absl::Status RunInProcessGroup(const ModelFile& file, const v1::ShardPlan& plan,
                               StepChannel* channel, const InProcessGroupOptions& options);

}  // namespace tessera::worker

#endif  // TESSERA_TESTS_WORKER_ENGINE_IN_PROCESS_GROUP_H_
