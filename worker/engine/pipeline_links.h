// Who this rank hears from and who hears from it (the picture is in rank_engine.h).
//
// Waits are for signs of life, not for results: a stage may compute for minutes, and whoever waits
// for it hears a heartbeat in between. The leader's heartbeats go down the pipeline and come back
// to it from the last stage; a rank that computes adds its own (KeepAlive).
//
// Borrows the world communicator. Threads: the engine thread.
//
//   PipelineLinks links(world, plan, absl::Seconds(5));
//   TESSERA_RETURN_IF_ERROR(links.SendToAll(StepMessageKind::kHeartbeat, ""));
#ifndef TESSERA_WORKER_ENGINE_PIPELINE_LINKS_H_
#define TESSERA_WORKER_ENGINE_PIPELINE_LINKS_H_

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/base/status_macros.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/plan.pb.h"
#include "worker/comm/communicator.h"
#include "worker/comm/message_tags.h"
#include "worker/engine/step_message.h"

namespace tessera::worker {

class PipelineLinks {
 public:
  // heartbeat: the longest that this rank stays silent while it works.
  PipelineLinks(Communicator* world, const v1::ShardPlan& plan, absl::Duration heartbeat)
      : world_(world),
        tp_(plan.tensor_parallel_size()),
        pp_(plan.pipeline_parallel_size()),
        heartbeat_(absl::ToChronoNanoseconds(heartbeat)) {
    if (is_leader()) {
      for (int peer = 1; peer < tp_; ++peer) peers_.push_back(peer);
    }
  }

  bool is_leader() const { return world_->rank() == 0; }
  bool on_first_stage() const { return world_->rank() < tp_; }
  bool on_last_stage() const { return world_->rank() / tp_ == pp_ - 1; }
  int stages() const { return pp_; }
  bool has_peers() const { return !peers_.empty(); }
  // Whether this rank hands the results to the leader.
  bool reports_results() const { return world_->rank() == reporter(); }

  // How to wait for what comes through it.
  Patience patience() const { return world_->patience(); }

  // Sends the header to the leader's tensor-parallel peers. Others have none.
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

  // A heartbeat to everyone who waits for this rank.
  absl::Status SendHeartbeat() {
    last_beat_ = Clock::now();
    if (reports_results() && !is_leader()) {
      return world_->Send(0, kResultTag, EncodeStepMessage(StepMessageKind::kHeartbeat, ""));
    }
    return SendToAll(StepMessageKind::kHeartbeat, "");
  }

  // Sends a heartbeat if the last one was long enough ago. To be called often.
  absl::Status KeepAlive() {
    if (Clock::now() - last_beat_ < heartbeat_) return absl::OkStatus();
    return SendHeartbeat();
  }

  // From the stage before, or from the leader on the first stage.
  absl::StatusOr<StepMessage> ReceiveStep() {
    TESSERA_ASSIGN_OR_RETURN(Bytes bytes, world_->Receive(steps_from(), kStepTag));
    return StepMessage::Decode(std::move(bytes));
  }

  // The next step message if it has arrived; nullopt when it has not.
  absl::StatusOr<std::optional<StepMessage>> TryReceiveStep() {
    TESSERA_ASSIGN_OR_RETURN(std::optional<Bytes> bytes,
                             world_->TryReceive(steps_from(), kStepTag));
    if (!bytes) return std::nullopt;
    TESSERA_ASSIGN_OR_RETURN(StepMessage message, StepMessage::Decode(*std::move(bytes)));
    return message;
  }

  absl::Status SendResult(const v1::StepResult& result) {
    std::string header;
    if (!result.SerializeToString(&header)) {
      return absl::InternalError(absl::StrCat("the result of step ", result.step_id(), ", ",
                                              result.ByteSizeLong(),
                                              " bytes, could not be serialized"));
    }
    return world_->Send(0, kResultTag, EncodeStepMessage(StepMessageKind::kResult, header));
  }

  // Leader, with more than one stage: a result that has arrived; nullopt when none has.
  absl::StatusOr<std::optional<v1::StepResult>> TryReceiveResult() {
    while (true) {
      TESSERA_ASSIGN_OR_RETURN(std::optional<Bytes> bytes,
                               world_->TryReceive(reporter(), kResultTag));
      if (!bytes) return std::nullopt;
      last_word_ = Clock::now();
      TESSERA_ASSIGN_OR_RETURN(const StepMessage message, StepMessage::Decode(*std::move(bytes)));
      if (message.kind() == StepMessageKind::kHeartbeat) continue;
      v1::StepResult result;
      if (message.kind() != StepMessageKind::kResult ||
          !result.ParseFromArray(message.header().data(),
                                 static_cast<int>(message.header().size()))) {
        return absl::InternalError(absl::StrCat("the last stage sent ", message.header().size(),
                                                " bytes of kind ", static_cast<int>(message.kind()),
                                                " that are no step result"));
      }
      return result;
    }
  }

  // Since the last stage was heard of, by result or heartbeat, or since `begin` if that is later.
  absl::Duration SilenceSince(std::chrono::steady_clock::time_point begin) const {
    return absl::FromChrono(Clock::now() - std::max(begin, last_word_));
  }

 private:
  using Clock = std::chrono::steady_clock;

  int reporter() const { return (pp_ - 1) * tp_; }
  int steps_from() const { return on_first_stage() ? 0 : world_->rank() - tp_; }

  Communicator* const world_;
  const int tp_;
  const int pp_;
  const std::chrono::nanoseconds heartbeat_;
  Clock::time_point last_beat_ = Clock::now();  // of this rank
  Clock::time_point last_word_ = Clock::now();  // of the last stage
  std::vector<int> peers_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_PIPELINE_LINKS_H_
