#include "coordinator/text/jinja/template.h"

#include <algorithm>

#include "coordinator/text/jinja/evaluator.h"
#include "coordinator/text/jinja/parser.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

bool Has(const std::vector<std::string>& sorted, absl::string_view wanted) {
  return std::binary_search(sorted.begin(), sorted.end(), wanted,
                            [](absl::string_view a, absl::string_view b) { return a < b; });
}

}  // namespace

absl::StatusOr<JinjaTemplate> JinjaTemplate::Parse(absl::string_view source) {
  TESSERA_ASSIGN_OR_RETURN(JinjaSyntax syntax, ParseJinja(source));
  return JinjaTemplate(std::move(syntax));
}

absl::StatusOr<ChatPrompt> JinjaTemplate::Render(const JinjaInput& input) const {
  return JinjaEvaluator(input).Run(syntax_.body);
}

bool JinjaTemplate::Reads(absl::string_view variable) const {
  return Has(syntax_.names_read, variable);
}

bool JinjaTemplate::HasLiteral(absl::string_view words) const {
  return Has(syntax_.literals, words);
}

}  // namespace tessera::coordinator
