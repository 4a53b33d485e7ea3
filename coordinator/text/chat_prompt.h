// A prompt being rendered: the template's own words, and what people wrote, kept apart so that a
// control token in a message ("<|im_end|>") stays text when the prompt is encoded.
//
//   ChatPrompt prompt;
//   prompt.Literal("<|im_start|>user\n").Content(turn.content).Literal("<|im_end|>\n");
//   tokenizer->Encode(prompt.text(), {.parse_special = true, .plain = prompt.contents()});
#ifndef TESSERA_COORDINATOR_TEXT_CHAT_PROMPT_H_
#define TESSERA_COORDINATOR_TEXT_CHAT_PROMPT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "coordinator/text/tokenizer/tokenizer.h"

namespace tessera::coordinator {

class ChatPrompt {
 public:
  ChatPrompt& Literal(absl::string_view words);
  ChatPrompt& Content(absl::string_view words);
  ChatPrompt& Append(const ChatPrompt& more);
  // Bytes [begin, end) of `from`, with its marks. People's words that touch become one range.
  ChatPrompt& AppendSlice(const ChatPrompt& from, size_t begin, size_t end);
  // Without the white space at both ends, whoever wrote it; see PythonStrip.
  void Strip();

  const std::string& text() const { return text_; }
  // Where people's words stand: in order, without overlaps, none of them empty.
  absl::Span<const TextRange> contents() const { return contents_; }
  bool IsContent(size_t pos) const;  // did people write the byte at `pos`?

 private:
  std::string text_;
  std::vector<TextRange> contents_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_CHAT_PROMPT_H_
