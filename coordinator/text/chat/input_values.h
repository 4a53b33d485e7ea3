// A conversation → the variables of its template. For chat_renderer.cc.
#ifndef TESSERA_COORDINATOR_TEXT_CHAT_INPUT_VALUES_H_
#define TESSERA_COORDINATOR_TEXT_CHAT_INPUT_VALUES_H_

#include "absl/status/statusor.h"
#include "coordinator/text/chat/renderer.h"
#include "coordinator/text/jinja/template.h"

namespace tessera::coordinator {

// How a template takes an assistant's message with tool calls; templates differ.
struct ToolCallForm {
  bool arguments_are_text = false;     // else an object
  bool empty_content_is_none = false;  // else ""
};

// messages, tools, add_generation_prompt and the template's arguments. INVALID_ARGUMENT naming
// messages[i].tool_calls, tools[i] or chat_template_kwargs for what is no JSON of the right kind.
absl::StatusOr<JinjaInput> ChatVariables(const ChatInput& input, const ToolCallForm& form);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_CHAT_INPUT_VALUES_H_
