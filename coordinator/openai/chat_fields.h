// The fields of a chat request that make its prompt: messages, tools, tool_choice,
// chat_template_kwargs.
#ifndef TESSERA_COORDINATOR_OPENAI_CHAT_FIELDS_H_
#define TESSERA_COORDINATOR_OPENAI_CHAT_FIELDS_H_

#include "coordinator/openai/json_input.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

void ReadChatPrompt(JsonFields& fields, v1::ChatRequest* request);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_OPENAI_CHAT_FIELDS_H_
