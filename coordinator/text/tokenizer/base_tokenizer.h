// What the kinds of tokenizer have in common: the vocabulary, the tokens found verbatim, BOS and
// EOS around the text. A kind says how plain text becomes ids.
#ifndef TESSERA_COORDINATOR_TEXT_TOKENIZER_BASE_TOKENIZER_H_
#define TESSERA_COORDINATOR_TEXT_TOKENIZER_BASE_TOKENIZER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "coordinator/text/tokenizer/verbatim_tokens.h"
#include "coordinator/text/tokenizer/vocabulary.h"

namespace tessera::coordinator {

// Where a piece of plain text stands in the text to encode.
enum class TextPlace { kStart, kAfterToken, kAfterText };

class BaseTokenizer : public Tokenizer {
 public:
  explicit BaseTokenizer(Vocabulary vocabulary);

  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                              const EncodeOptions& options) const final;
  const std::string& TokenBytes(int32_t id) const final;
  bool IsControl(int32_t id) const final { return vocabulary_.IsControl(id); }
  bool IsStop(int32_t id) const final { return vocabulary_.IsStop(id); }
  int vocab_size() const final { return vocabulary_.size(); }
  size_t longest_token_bytes() const final { return longest_token_bytes_; }

 protected:
  // The ids of `text`, valid UTF-8 and not empty, appended to `ids`.
  virtual absl::Status EncodeText(absl::string_view text, TextPlace place,
                                  std::vector<int32_t>& ids) const = 0;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  // For the factories of the kinds: the bytes that each id stands for, then the verbatim search,
  // which looks for those bytes.
  absl::Status SetTokenBytes(std::vector<std::string> bytes);

 private:
  Vocabulary vocabulary_;
  std::vector<std::string> token_bytes_;  // by id
  size_t longest_token_bytes_ = 1;
  VerbatimTokens verbatim_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_TOKENIZER_BASE_TOKENIZER_H_
