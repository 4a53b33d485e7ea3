// One request's output, token by token: bytes to whole UTF-8 characters, and stop strings.
//
// Holds back what might still become part of a character or of a stop string; never emits half of
// either. Of several stop strings the one that is complete first counts, and of those the longest:
// how the text was cut into tokens does not matter. Not thread-safe; one per request.
//
//   TextStream stream(tokenizer, {"\n\n"}, /*skip_special=*/true);
//   std::string text = stream.Push(id);       // what can be shown now
//   if (stream.stopped()) ...                 // a stop string was completed; text ends before it
//   text += stream.Flush();                   // at the end of the sequence
#ifndef TESSERA_COORDINATOR_TEXT_TOKENIZER_TEXT_STREAM_H_
#define TESSERA_COORDINATOR_TEXT_TOKENIZER_TEXT_STREAM_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "proto/base/utf8.h"

namespace tessera::coordinator {

// What stands before a stream's first token. SentencePiece models with a space prefix write " Paris"
// for the first word of a text; behind "The capital of France is" the space belongs there.
enum class TextBefore { kNothing, kPrompt };

class TextStream {
 public:
  // `tokenizer` must outlive the stream. Empty stop strings are ignored.
  TextStream(const Tokenizer* tokenizer, const std::vector<std::string>& stop, bool skip_special,
             TextBefore before = TextBefore::kNothing);

  // The text that became certain with this token. After stopped(), always "". A stop string that is
  // completed by a token that may not stop is text like any other.
  std::string Push(int32_t id, bool may_stop = true);
  // What was held back (U+FFFD for an unfinished character).
  std::string Flush();
  bool stopped() const { return stopped_; }

 private:
  // Where one stop string stands in the text so far (Knuth, Morris, Pratt): each byte costs a
  // constant, and what is held back is exactly what may still become a stop string.
  struct StopString {
    std::string text;
    std::vector<size_t> fallback;  // by prefix length: its longest proper border
    size_t matched = 0;            // bytes of `text` that the output so far ends with

    void Advance(char c);
    bool complete() const { return matched == text.size(); }
  };

  // Takes whole characters and gives what no stop string can take back.
  std::string Accept(absl::string_view characters, bool may_stop);

  const Tokenizer* tokenizer_;
  std::vector<StopString> stops_;
  bool skip_special_;
  bool drops_space_;  // one leading space, of the first text to come
  bool stopped_ = false;
  std::string bytes_;  // not yet whole characters
  std::string held_;   // whole characters that may begin a stop string
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_TOKENIZER_TEXT_STREAM_H_
