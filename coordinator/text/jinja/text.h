// Python's str methods on marked text. Positions in and out are bytes; what Python counts in
// characters is turned into them here.
//
// The results are as long as their input at most, but for replaced and joined parts; callers charge
// their budget (jinja_budget.h) beforehand.
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_TEXT_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_TEXT_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/strings/string_view.h"
#include "coordinator/text/chat_prompt.h"

namespace tessera::coordinator {

ChatPrompt TextSlice(const ChatPrompt& text, size_t begin, size_t end);

// Characters, and the byte each begins at; the last entry is the text's size.
size_t CharacterCount(absl::string_view text);
std::vector<size_t> CharacterBegins(absl::string_view text);

enum class TextEnds { kBoth, kLeft, kRight };
// Without the characters of `characters` at the ends; nullopt: white space.
ChatPrompt TextStrip(const ChatPrompt& text, TextEnds ends,
                     std::optional<absl::string_view> characters);

// At `separator` (not empty), at most `most` times; from the right with `from_right`. A negative
// `most` has no bound. Without a separator: at runs of white space.
struct TextSplitOptions {
  std::optional<absl::string_view> separator = std::nullopt;
  int64_t most = -1;
  bool from_right = false;
};
std::vector<ChatPrompt> TextSplit(const ChatPrompt& text, const TextSplitOptions& options);
std::vector<ChatPrompt> TextLines(const ChatPrompt& text, bool keep_ends);

// The first `most` occurrences (all if negative) of `from`.
ChatPrompt TextReplace(const ChatPrompt& text, absl::string_view from, const ChatPrompt& to,
                       int64_t most);
size_t CountOccurrences(absl::string_view text, absl::string_view part);

enum class TextCase {
  kUpper,
  kLower,
  kCapitalize,  // the first character upper, the others lower
  kTitle,       // str.title: upper behind what is no letter
  kTitleWords,  // Jinja's filter: upper behind white space and - ( { [ <
};
ChatPrompt TextToCase(const ChatPrompt& text, TextCase style);

// str.isdigit and its like: not empty and every character of one kind.
enum class TextClass { kAlpha, kDigit, kAlphanumeric, kSpace, kUpper, kLower };
bool TextIs(absl::string_view text, TextClass kind);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_TEXT_H_
