// tokenizer.json (the format of the `tokenizers` library) with a BPE model → TokenizerDescription.
//
// Two kinds are recognized: byte-level (a ByteLevel pre-tokenizer), and SentencePiece-like (byte
// fallback, U+2581 for spaces). Anything in the file that changes tokenization and is not
// implemented is UNIMPLEMENTED with the name of the part.
#ifndef TESSERA_WORKER_FILES_HF_BPE_H_
#define TESSERA_WORKER_FILES_HF_BPE_H_

#include <string>

#include "absl/status/status.h"
#include "tessera/v1/model.pb.h"
#include "worker/files/json.h"

namespace tessera::worker {

// Sets all but bos, eos, pad and stop ids, except that a template which puts a token before the text
// sets add_bos and bos_id (after it: add_eos and eos_id). where: the file's path.
absl::Status ParseTokenizerJson(const std::string& where, const Json& root, int vocab_size,
                                v1::TokenizerDescription* tokenizer);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_HF_BPE_H_
