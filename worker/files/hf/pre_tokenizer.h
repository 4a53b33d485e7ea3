// The normalizer and pre_tokenizer of a tokenizer.json: which kind of BPE it is, and where it cuts.
#ifndef TESSERA_WORKER_FILES_HF_PRE_TOKENIZER_H_
#define TESSERA_WORKER_FILES_HF_PRE_TOKENIZER_H_

#include <string>

#include "absl/status/status.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/json.h"

namespace tessera::worker {

// Sets kind, pre_tokenizer_patterns and their name, normalize_nfc, add_space_prefix. Understood:
//   byte-level     normalizer: none or NFC
//                  pre_tokenizer: ByteLevel, or a Sequence of Split (isolated), Digits, ByteLevel
//   SentencePiece  normalizer: none, or Prepend and Replace of U+2581
//                  pre_tokenizer: none, or Metaspace without split
absl::Status ParsePreTokenizer(const std::string& where, const Json& root,
                               v1::TokenizerDescription* tokenizer);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_HF_PRE_TOKENIZER_H_
