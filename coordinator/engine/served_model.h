// What the coordinator knows of a model once its group has joined: the description that came with
// it, checked and planned, and what turns its texts into tokens. Immutable; any thread.
//
//   TESSERA_ASSIGN_OR_RETURN(std::shared_ptr<const ServedModel> model,
//                            MakeServedModel(hello, layout, name));
#ifndef TESSERA_COORDINATOR_ENGINE_SERVED_MODEL_H_
#define TESSERA_COORDINATOR_ENGINE_SERVED_MODEL_H_

#include <memory>
#include <string>
#include <vector>

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
  // What is of the text is shared between groups of one model.
  std::shared_ptr<const Tokenizer> tokenizer;   // null when the model has none
  std::shared_ptr<const ModelGrammar> grammar;  // likewise
  // An error when the model has no chat template, or none that can be evaluated.
  absl::StatusOr<std::shared_ptr<const ChatRenderer>> chat =
      absl::NotFoundError("no chat template");
  size_t fingerprint = 0;  // of the description
};

// Whether a request of one can go on with the other: the same weights and vocabulary, in whatever
// layout.
bool IsSameModel(const ServedModel& a, const ServedModel& b);

// INVALID_ARGUMENT for a description that does not hold together, a layout that does not fit it, or
// a group of another size. Its name is what the group calls it, else `served_name`, else the
// model's own. `known`: models that are served already, of which texts may be shared.
absl::StatusOr<std::shared_ptr<const ServedModel>> MakeServedModel(
    const v1::Hello& hello, const Layout& layout, const std::string& served_name,
    const std::vector<std::shared_ptr<const ServedModel>>& known = {});

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_SERVED_MODEL_H_
