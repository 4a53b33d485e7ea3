// tessera.v1.Inference over the front door: who calls, in which metadata, as which messages.
// Callback API: every call returns at once.
//
// Text prompts of Generate are parsed for control tokens ("<|im_end|>"), as people expect who write
// a chat format themselves; Tokenize takes them as plain text unless asked.
//
//   std::unique_ptr<grpc::Service> service = MakeInferenceService(front, access);   // both outlive it
#ifndef TESSERA_COORDINATOR_GRPC_INFERENCE_SERVICE_H_
#define TESSERA_COORDINATOR_GRPC_INFERENCE_SERVICE_H_

#include <memory>

#include "coordinator/front/access.h"
#include "coordinator/front/front_door.h"

namespace grpc {
class Service;
}

namespace tessera::coordinator {

std::unique_ptr<grpc::Service> MakeInferenceService(FrontDoor* front, const Access* access);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GRPC_INFERENCE_SERVICE_H_
