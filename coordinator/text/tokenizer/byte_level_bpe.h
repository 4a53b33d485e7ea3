// Byte-level BPE, as GPT-2 began it: every byte is written as a printable character, and pairs are
// merged by rank within the pieces of the pre-tokenizer.
#ifndef TESSERA_COORDINATOR_TEXT_TOKENIZER_BYTE_LEVEL_BPE_H_
#define TESSERA_COORDINATOR_TEXT_TOKENIZER_BYTE_LEVEL_BPE_H_

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "tessera/v1/model.pb.h"

namespace tessera::coordinator {

// As Tokenizer::Create, for kind BYTE_LEVEL_BPE.
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateByteLevelBpe(
    const v1::TokenizerDescription& description);

// The character that stands for each byte, in UTF-8: printable Latin-1 as itself, the others from
// U+0100 on in order (space is "Ġ").
const std::array<std::string, 256>& ByteAlphabet();

// The bytes that a token in that alphabet stands for; nullopt when a character is not in it.
std::optional<std::string> BytesOfAlphabet(absl::string_view token);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_TOKENIZER_BYTE_LEVEL_BPE_H_
