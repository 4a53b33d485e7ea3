// One request's output, token by token: bytes to whole UTF-8 characters, and stop strings.
//
// Holds back what might still become part of a character or of a stop string; never emits half of
// either. Not thread-safe; one per request.
//
//   TextStream stream(tokenizer, {"\n\n"}, /*skip_special=*/true);
//   std::string text = stream.Push(id);       // what can be shown now
//   if (stream.stopped()) ...                 // a stop string was completed; text ends before it
//   text += stream.Flush();                   // at the end of the sequence
#ifndef TESSERA_COORDINATOR_TEXT_TEXT_STREAM_H_
#define TESSERA_COORDINATOR_TEXT_TEXT_STREAM_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "coordinator/text/tokenizer.h"

namespace tessera::coordinator {

class TextStream {
 public:
  // `tokenizer` must outlive the stream. Empty stop strings are ignored.
  TextStream(const Tokenizer* tokenizer, std::vector<std::string> stop, bool skip_special);

  // The text that became certain with this token. After stopped(), always "".
  std::string Push(int32_t id);
  // What was held back (U+FFFD for an unfinished character).
  std::string Flush();
  bool stopped() const { return stopped_; }

 private:
  std::string Release(bool final);

  const Tokenizer* tokenizer_;
  std::vector<std::string> stop_;
  bool skip_special_;
  bool at_start_ = true;
  bool stopped_ = false;
  std::string bytes_;   // not yet whole characters
  std::string held_;    // whole characters that may begin a stop string
};

// Length of the longest prefix of `bytes` that is whole UTF-8; what follows it may still become a
// character. Invalid bytes count as whole (they are replaced on output).
size_t WholeUtf8Prefix(absl::string_view bytes);

// `bytes` with every invalid sequence replaced by U+FFFD, as Python's errors="replace".
std::string SanitizeUtf8(absl::string_view bytes);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_TEXT_STREAM_H_
