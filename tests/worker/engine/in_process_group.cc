#include "tests/worker/engine/in_process_group.h"

#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/annotate.h"
#include "proto/base/status_macros.h"

namespace tessera::worker {
namespace {

absl::Status ServeRank(const ModelFile& file, const v1::ShardPlan& plan, StepChannel* channel,
                       const RankEngineOptions& options, std::unique_ptr<Communicator> world) {
  TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<RankEngine> engine,
                           RankEngine::Create(file, plan, world.get(), options));
  return engine->Serve(world->rank() == 0 ? channel : nullptr);
}

}  // namespace

std::vector<absl::Status> ServeInProcess(const ModelFile& file, const v1::ShardPlan& plan,
                                         StepChannel* channel,
                                         const InProcessGroupOptions& options) {
  std::vector<std::unique_ptr<Communicator>> worlds;
  if (plan.ranks_size() == 1) {
    worlds.push_back(MakeNullCommunicator());
  } else {
    worlds = MakeThreadCommunicators(plan.ranks_size(), options.communicator);
  }
  std::vector<absl::Status> ended(worlds.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < worlds.size(); ++i) {
    threads.emplace_back([&, i] {
      ended[i] = ServeRank(file, plan, channel, options.engine, std::move(worlds[i]));
    });
  }
  for (std::thread& thread : threads) thread.join();
  return ended;
}

absl::Status RunInProcessGroup(const ModelFile& file, const v1::ShardPlan& plan,
                               StepChannel* channel, const InProcessGroupOptions& options) {
  const std::vector<absl::Status> ended = ServeInProcess(file, plan, channel, options);
  for (size_t i = 0; i < ended.size(); ++i) {
    if (!ended[i].ok()) return Annotate(ended[i], absl::StrCat("world rank ", i));
  }
  return absl::OkStatus();
}

}  // namespace tessera::worker
