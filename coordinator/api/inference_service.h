// tessera.v1.Inference over the engine loop: checks what clients send, turns text into ids, streams
// the answers. Callback API: every call returns at once; only tokenizing runs in the reaction.
//
// Text prompts of Generate are parsed for control tokens ("<|im_end|>"), as people expect who write
// a chat format themselves; Tokenize takes them as plain text unless asked.
//
//   std::unique_ptr<grpc::Service> service = MakeInferenceService(loop);   // loop outlives it
#ifndef TESSERA_COORDINATOR_API_INFERENCE_SERVICE_H_
#define TESSERA_COORDINATOR_API_INFERENCE_SERVICE_H_

#include <memory>

#include "coordinator/api/engine_loop.h"

namespace grpc {
class Service;
}

namespace tessera::coordinator {

std::unique_ptr<grpc::Service> MakeInferenceService(EngineLoop* loop);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_API_INFERENCE_SERVICE_H_
