// Pre-tokenizers by the names GGUF files use (tokenizer.ggml.pre), as rows of PCRE2 patterns, and
// the patterns that tokenizer.json's building blocks stand for.
#ifndef TESSERA_WORKER_FILES_PRE_TOKENIZERS_H_
#define TESSERA_WORKER_FILES_PRE_TOKENIZERS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tessera::worker {

// What ByteLevel with use_regex stands for: GPT-2's pattern.
extern const char kGpt2Pattern[];
// What Digits stands for: one by one, or runs.
extern const char kSingleDigitPattern[];
extern const char kDigitRunPattern[];

struct PreTokenizer {
  const char* name;
  std::vector<std::string> patterns;  // in order; see TokenizerDescription
  bool normalize_nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;  // when the file does not say
};

// nullptr for an unknown name.
const PreTokenizer* FindPreTokenizer(absl::string_view name);

// The name under which exactly these patterns are known; empty if none.
std::string NameOfPatterns(const std::vector<std::string>& patterns);

// All names, for a message.
std::string KnownPreTokenizers();

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_PRE_TOKENIZERS_H_
