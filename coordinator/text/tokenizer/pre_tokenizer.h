// Cuts text into the pieces within which BPE may merge, by the regular expressions that the model
// was trained with. Immutable after Create and safe from any thread.
//
//   TESSERA_ASSIGN_OR_RETURN(auto pre, PreTokenizer::Create({"\\p{N}", kGpt2Pattern}));
//   TESSERA_ASSIGN_OR_RETURN(std::vector<absl::string_view> pieces, pre.Split("in 1969"));
#ifndef TESSERA_COORDINATOR_TEXT_TOKENIZER_PRE_TOKENIZER_H_
#define TESSERA_COORDINATOR_TEXT_TOKENIZER_PRE_TOKENIZER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct pcre2_real_code_8;
struct pcre2_real_match_context_8;

namespace tessera::coordinator {

class PreTokenizer {
 public:
  // INVALID_ARGUMENT naming tokenizer.pre_tokenizer_patterns[i] and the position in it.
  static absl::StatusOr<PreTokenizer> Create(const std::vector<std::string>& patterns);

  // The pieces of `text` (valid UTF-8), in order and without holes, pointing into it. Every match
  // of a pattern is a piece and so is every gap; the next pattern cuts each of them further and
  // does not see beyond it. RESOURCE_EXHAUSTED when a pattern needs too many steps.
  absl::StatusOr<std::vector<absl::string_view>> Split(absl::string_view text) const;

 private:
  struct CodeDeleter {
    void operator()(pcre2_real_code_8* code) const;
  };
  struct ContextDeleter {
    void operator()(pcre2_real_match_context_8* context) const;
  };
  using Code = std::unique_ptr<pcre2_real_code_8, CodeDeleter>;

  static absl::StatusOr<Code> Compile(const std::string& pattern, const std::string& field);

  std::vector<Code> codes_;
  std::unique_ptr<pcre2_real_match_context_8, ContextDeleter> limits_;
};

// The pattern with \s and \S replaced by what Unicode and the tokenizers' own engines call white
// space. PCRE2's \s also has U+180E, which stands inside Mongolian words.
std::string WithUnicodeWhitespace(absl::string_view pattern);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_TOKENIZER_PRE_TOKENIZER_H_
