// Who this rank hears from and who hears from it (the picture is in rank_engine.h).
//
// Borrows the world communicator. Threads: the engine thread.
//
//   PipelineLinks links(world, plan);
//   TESSERA_RETURN_IF_ERROR(links.SendToAll(StepMessageKind::kHeartbeat, ""));
#ifndef TESSERA_WORKER_ENGINE_PIPELINE_LINKS_H_
#define TESSERA_WORKER_ENGINE_PIPELINE_LINKS_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/wire/status_macros.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/model.pb.h"
#include "worker/comm/communicator.h"
#include "worker/engine/step_message.h"

namespace tessera::worker {

// Tags on the world communicator that the engine uses.
inline constexpr int kStepTag = 101;
inline constexpr int kResultTag = 102;
inline constexpr int kStatusTag = 103;
inline constexpr int kVerdictTag = 104;

class PipelineLinks {
 public:
  PipelineLinks(Communicator* world, const v1::ShardPlan& plan)
      : world_(world), tp_(plan.tensor_parallel_size()), pp_(plan.pipeline_parallel_size()) {
    if (is_leader()) {
      for (int peer = 1; peer < tp_; ++peer) peers_.push_back(peer);
    }
  }

  bool is_leader() const { return world_->rank() == 0; }
  bool on_last_stage() const { return world_->rank() / tp_ == pp_ - 1; }
  int stages() const { return pp_; }
  // Whether this rank hands the results to the leader.
  bool reports_results() const { return world_->rank() == reporter(); }

  // The same header to the leader's tensor-parallel peers. Others have none.
  absl::Status SendToPeers(StepMessageKind kind, absl::string_view header) {
    for (int peer : peers_) {
      TESSERA_RETURN_IF_ERROR(world_->Send(peer, kStepTag, EncodeStepMessage(kind, header)));
    }
    return absl::OkStatus();
  }

  // To this tp_rank's place in the next stage; nothing on the last.
  absl::Status SendToNextStage(StepMessageKind kind, absl::string_view header,
                               absl::Span<const float> activations = {}) {
    if (on_last_stage()) return absl::OkStatus();
    return world_->Send(world_->rank() + tp_, kStepTag,
                        EncodeStepMessage(kind, header, activations));
  }

  absl::Status SendToAll(StepMessageKind kind, absl::string_view header) {
    TESSERA_RETURN_IF_ERROR(SendToPeers(kind, header));
    return SendToNextStage(kind, header);
  }

  // From the stage before, or from the leader on the first stage.
  absl::StatusOr<StepMessage> ReceiveStep() {
    const int from = world_->rank() < tp_ ? 0 : world_->rank() - tp_;
    TESSERA_ASSIGN_OR_RETURN(Bytes bytes, world_->Receive(from, kStepTag));
    return StepMessage::Decode(std::move(bytes));
  }

  absl::Status SendResult(const v1::StepResult& result) {
    Bytes bytes(result.ByteSizeLong());
    if (!result.SerializeToArray(bytes.data(), static_cast<int>(bytes.size()))) {
      return absl::InternalError("a step result could not be serialized");
    }
    return world_->Send(0, kResultTag, std::move(bytes));
  }

  // Leader, with more than one stage: a result that has arrived; nullopt when none has.
  absl::StatusOr<std::optional<v1::StepResult>> TryReceiveResult() {
    TESSERA_ASSIGN_OR_RETURN(std::optional<Bytes> bytes,
                             world_->TryReceive(reporter(), kResultTag));
    if (!bytes) return std::nullopt;
    v1::StepResult result;
    if (!result.ParseFromArray(bytes->data(), static_cast<int>(bytes->size()))) {
      return absl::InternalError("the last stage sent a step result that does not parse");
    }
    return result;
  }

 private:
  int reporter() const { return (pp_ - 1) * tp_; }

  Communicator* const world_;
  const int tp_;
  const int pp_;
  std::vector<int> peers_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_PIPELINE_LINKS_H_
