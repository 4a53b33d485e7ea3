// Words that must not come up → the token sequences that would write them. Pure.
//
//   scheduled.bad_words = BadWordIds(sampling.bad_words(), *model.tokenizer);
#ifndef TESSERA_COORDINATOR_ENGINE_BAD_WORDS_H_
#define TESSERA_COORDINATOR_ENGINE_BAD_WORDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "google/protobuf/repeated_field.h"

namespace tessera::coordinator {

// Each word as it stands at the start of a text and behind a space, as vLLM does. Distinct, none of
// them empty. RESOURCE_EXHAUSTED as Tokenizer::Encode.
absl::StatusOr<std::vector<std::vector<int32_t>>> BadWordIds(
    const google::protobuf::RepeatedPtrField<std::string>& words, const Tokenizer& tokenizer);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_BAD_WORDS_H_
