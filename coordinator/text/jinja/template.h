// A chat template that can be rendered: Jinja as transformers evaluates it, within a budget.
//
// Immutable after Parse and safe from any thread.
//
//   TESSERA_ASSIGN_OR_RETURN(const JinjaTemplate chat, JinjaTemplate::Parse(source));
//   TESSERA_ASSIGN_OR_RETURN(ChatPrompt prompt, chat.Render({.variables = ..., .limits = {}}));
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_TEMPLATE_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_TEMPLATE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/text/jinja/budget.h"
#include "coordinator/text/jinja/syntax.h"
#include "coordinator/text/jinja/value.h"

namespace tessera::coordinator {

struct JinjaInput {
  std::vector<std::pair<std::string, JinjaValue>> variables;
  JinjaLimits limits = {};
  absl::Time now = absl::UnixEpoch();  // of strftime_now, in the local time zone
};

class JinjaTemplate {
 public:
  // As ParseJinja.
  static absl::StatusOr<JinjaTemplate> Parse(absl::string_view source);

  // INVALID_ARGUMENT with the template's own words where it raises an exception, and "line N: ..."
  // for what cannot be evaluated or passes a limit.
  absl::StatusOr<ChatPrompt> Render(const JinjaInput& input) const;

  bool Reads(absl::string_view variable) const;
  bool HasLiteral(absl::string_view words) const;  // a string literal that is `words`

 private:
  explicit JinjaTemplate(JinjaSyntax syntax) : syntax_(std::move(syntax)) {}

  JinjaSyntax syntax_;
};

// The payload of the status of a conversation that the template itself refused.
inline constexpr char kJinjaRaisedUrl[] = "tessera/jinja-raised";

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_TEMPLATE_H_
