// What travels down the pipeline, one message per step with header and activations together, and
// back from its end to the leader.
//
//   message     := u32 magic "TSM1", u32 kind, u64 header bytes, header, activations
//   header      := kStep, kEnqueue: serialized StepPlan; kResult: serialized StepResult; kAbort:
//                  why, as text; else empty
//   activations := kStep towards a later stage: (n, hidden_size) float32; else none
//
// Little endian. Enqueue says that the step is to be put on the device, behind the one that may be
// running there, and that nobody waits for it (step_runner.h). A heartbeat carries nothing: it
// keeps every rank's wait within its deadline. End asks for an orderly return; abort says that the
// leader failed.
//
//   Bytes message = EncodeStep(plan.SerializeAsString(), activations);
//   TESSERA_ASSIGN_OR_RETURN(StepMessage step, StepMessage::Decode(std::move(message)));
#ifndef TESSERA_WORKER_ENGINE_STEP_MESSAGE_H_
#define TESSERA_WORKER_ENGINE_STEP_MESSAGE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {

enum class StepMessageKind : uint32_t {
  kStep = 1,
  kHeartbeat = 2,
  kEnd = 3,
  kAbort = 4,
  kResult = 5,
  kEnqueue = 6
};

Bytes EncodeStepMessage(StepMessageKind kind, absl::string_view header,
                        absl::Span<const float> activations = {});

// A received message; owns its bytes.
class StepMessage {
 public:
  // INTERNAL naming what is wrong when the bytes are not such a message.
  static absl::StatusOr<StepMessage> Decode(Bytes bytes);

  StepMessageKind kind() const { return kind_; }
  absl::string_view header() const;
  // Bytes after the header; not aligned for float, so copy them out.
  absl::Span<const std::byte> activations() const;

 private:
  StepMessage(Bytes bytes, StepMessageKind kind, uint64_t header_bytes)
      : bytes_(std::move(bytes)), kind_(kind), header_bytes_(header_bytes) {}

  Bytes bytes_;
  StepMessageKind kind_;
  uint64_t header_bytes_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_STEP_MESSAGE_H_
