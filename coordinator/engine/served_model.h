// What the coordinator knows of a model once its group has joined: the description that came with
// it, checked and planned, and what turns its texts into tokens. Immutable; any thread.
//
//   TESSERA_ASSIGN_OR_RETURN(std::shared_ptr<const ServedModel> model,
//                            MakeServedModel(hello, layout, name));
#ifndef TESSERA_COORDINATOR_ENGINE_SERVED_MODEL_H_
#define TESSERA_COORDINATOR_ENGINE_SERVED_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/engine/model_grammar.h"
#include "coordinator/plan/shard_planner.h"
#include "coordinator/text/chat/renderer.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/plan.pb.h"

namespace tessera::coordinator {

struct ServedModel {
  std::string name;
  v1::ModelDescription description;
  v1::ShardPlan plan;
  bool time_sliced_stages = false;         // v1::Hello's
  std::unique_ptr<Tokenizer> tokenizer;   // null when the model has none
  std::unique_ptr<ModelGrammar> grammar;  // likewise
  // An error when the model has no chat template, or none that can be evaluated.
  absl::StatusOr<std::unique_ptr<ChatRenderer>> chat = absl::NotFoundError("no chat template");
};

// INVALID_ARGUMENT for a description that does not hold together, a layout that does not fit it, or
// a group of another size. An empty `served_name` is the model's own.
absl::StatusOr<std::shared_ptr<const ServedModel>> MakeServedModel(const v1::Hello& hello,
                                                                   const Layout& layout,
                                                                   const std::string& served_name);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_SERVED_MODEL_H_
