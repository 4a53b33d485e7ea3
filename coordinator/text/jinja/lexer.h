// A Jinja template → tokens, with white space control as transformers sets it: trim_blocks and
// lstrip_blocks.
//
//   TESSERA_ASSIGN_OR_RETURN(std::vector<JinjaToken> tokens, LexJinja("Hi {{ name }}!"));
//   // kText "Hi ", kOutputBegin, kName "name", kOutputEnd, kText "!", kEnd
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_LEXER_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_LEXER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tessera::coordinator {

struct JinjaToken {
  enum class Kind {
    kText,         // outside of tags
    kOutputBegin,  // {{
    kOutputEnd,    // }}
    kBlockBegin,   // {%
    kBlockEnd,     // %}
    kName,
    kString,  // text is unescaped
    kInteger,
    kFloat,
    kOperator,  // text is the operator
    kEnd,
  } kind;
  std::string text = {};
  int64_t integer = 0;
  double real = 0;
  int line = 1;  // from 1
};

// INVALID_ARGUMENT "line N: ..." for what is no Jinja.
absl::StatusOr<std::vector<JinjaToken>> LexJinja(absl::string_view source);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_LEXER_H_
