// Reads the string literals of a Jinja template, without running it: enough to find out which words
// a template of a known family puts around the messages.
//
//   for (const JinjaTag& tag : ScanJinja(chat_template))
//     for (const JinjaPart& part : tag.parts) if (part.is_literal) ... part.text ...
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_LITERALS_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_LITERALS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tessera::coordinator {

struct JinjaPart {
  bool is_literal;   // else: code between literals, blanks at its ends removed
  std::string text;  // a literal's is unescaped; literals joined by + or ~ are one
};

struct JinjaTag {
  enum class Kind { kText, kOutput, kStatement } kind;  // outside of tags, {{ }}, {% %}
  std::vector<JinjaPart> parts;                         // kText: one literal
};

// In the template's order; comments are left out. Never fails: an unfinished tag or literal ends
// with the template.
std::vector<JinjaTag> ScanJinja(absl::string_view source);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_LITERALS_H_
