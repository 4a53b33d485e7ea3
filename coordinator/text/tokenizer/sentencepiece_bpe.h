// SentencePiece's BPE, as Llama 1 and 2 use it: spaces are written U+2581, adjacent characters of
// the whole text are merged by score, and what has no token falls back to bytes <0xNN>.
#ifndef TESSERA_COORDINATOR_TEXT_TOKENIZER_SENTENCEPIECE_BPE_H_
#define TESSERA_COORDINATOR_TEXT_TOKENIZER_SENTENCEPIECE_BPE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "tessera/v1/model.pb.h"

namespace tessera::coordinator {

// As Tokenizer::Create, for kind SENTENCEPIECE_BPE. The space prefix goes before text that begins
// the sequence or follows a token found verbatim, as llama.cpp does.
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateSentencePieceBpe(
    const v1::TokenizerDescription& description);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_TOKENIZER_SENTENCEPIECE_BPE_H_
