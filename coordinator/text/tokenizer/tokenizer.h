// Text ↔ token ids, from the tokenizer a worker group described.
//
// Immutable after Create and safe from any thread. Invalid UTF-8 in the input is first replaced by
// U+FFFD as Python's errors="replace" does, so that every byte string has an encoding.
//
//   TESSERA_ASSIGN_OR_RETURN(auto tokenizer, Tokenizer::Create(model.tokenizer()));
//   auto ids = tokenizer->Encode("Hello", {.add_special = true});
#ifndef TESSERA_COORDINATOR_TEXT_TOKENIZER_TOKENIZER_H_
#define TESSERA_COORDINATOR_TEXT_TOKENIZER_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tessera/v1/model.pb.h"

namespace tessera::coordinator {

// Half-open, in bytes of a text.
struct TextRange {
  size_t begin = 0;
  size_t end = 0;
};

struct EncodeOptions {
  bool add_special = true;     // BOS and EOS where the model wants them
  bool parse_special = false;  // recognize control tokens ("<|im_end|>") in the text
  // Where none is recognized all the same: what a user wrote into a prompt stays text. In order and
  // without overlaps. Nothing else about the encoding changes, whatever the ranges.
  absl::Span<const TextRange> plain = {};
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // INVALID_ARGUMENT naming the field for a description that does not hold together (sizes that
  // differ, merges of unknown parts, a pattern that does not compile, ids out of range).
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(
      const v1::TokenizerDescription& description);

  // Linear in the text but for one piece's merges (n log n); no recursion, no backtracking without
  // a bound. RESOURCE_EXHAUSTED when the pre-tokenizer's match limit is hit.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                                      const EncodeOptions& options) const = 0;

  // The bytes an id stands for in running text ("Ġthe" gives " the"). Control tokens give their
  // own text; ids out of range give "".
  virtual const std::string& TokenBytes(int32_t id) const = 0;
  virtual bool IsControl(int32_t id) const = 0;
  virtual bool IsStop(int32_t id) const = 0;  // ends a generation
  virtual int vocab_size() const = 0;
  virtual size_t longest_token_bytes() const = 0;  // a text of n bytes is at least n / this tokens
  // The first text of a sequence loses one leading space (SentencePiece with a space prefix).
  virtual bool strips_leading_space() const = 0;

  // All of `ids` as text; invalid sequences become U+FFFD.
  std::string Decode(absl::Span<const int32_t> ids, bool skip_special) const;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_TOKENIZER_TOKENIZER_H_
