// The sampling fields that /v1/completions and /v1/chat/completions share, vLLM's extra ones
// included, and structured output in its three spellings (response_format, guided_*,
// structured_outputs).
//
// Types are checked here; ranges where they are checked for every door (the front door).
#ifndef TESSERA_COORDINATOR_OPENAI_SAMPLING_FIELDS_H_
#define TESSERA_COORDINATOR_OPENAI_SAMPLING_FIELDS_H_

#include "coordinator/openai/json_input.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// All but max_tokens and logprobs, which the two endpoints spell differently.
void ReadSampling(JsonFields& fields, v1::SamplingOptions* options);

// At most one constraint; a second one is an error.
void ReadStructuredOutput(JsonFields& fields, v1::SamplingOptions* options);

// Fields that would change the output and are not supported: refused unless they ask for nothing.
void RefuseUnsupported(JsonFields& fields);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_OPENAI_SAMPLING_FIELDS_H_
