// Chat messages → prompt, by the model's own Jinja template where it can be evaluated, otherwise by
// the family recognized from it (chat_format.h).
//
// The evaluator knows the subset of Jinja that the templates of Llama 3, Qwen2/3, SmolLM2, Mistral,
// Gemma, Phi and DeepSeek use, and has a bound on steps, output and nesting. What people wrote
// keeps its mark through the template (ChatPrompt::contents), so a control token in a message stays
// text.
//
// Roles are "system", "user", "assistant" and whatever other word the template compares with; they
// alone are no contents, since templates make control tokens of them. The arguments of tool calls
// may come as JSON text, as OpenAI's clients send them, or as an object: the template gets the form
// that it knows.
//
// Immutable after Create and safe from any thread.
//
//   auto renderer = ChatRenderer::Create({.jinja = ..., .bos_text = "<s>", .eos_text = "</s>"});
//   TESSERA_ASSIGN_OR_RETURN(ChatPrompt prompt, renderer->Render(input));
#ifndef TESSERA_COORDINATOR_TEXT_CHAT_RENDERER_H_
#define TESSERA_COORDINATOR_TEXT_CHAT_RENDERER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coordinator/text/chat_prompt.h"

namespace tessera::coordinator {

struct ChatTemplateSource {
  std::string jinja;
  std::string bos_text = {};
  std::string eos_text = {};
  absl::Time (*now)() = &absl::Now;  // of strftime_now, in the local time zone
};

struct ChatInputMessage {
  std::string role;
  std::string content;
  std::optional<std::string> name = std::nullopt;
  std::string tool_calls_json = {};  // empty: none
  std::optional<std::string> tool_call_id = std::nullopt;
};

struct ChatInput {
  std::vector<ChatInputMessage> messages;
  std::vector<std::string> tools_json = {};  // one JSON object each
  std::string template_kwargs_json = {};     // empty or a JSON object
  bool add_generation_prompt = true;
};

class ChatRenderer {
 public:
  virtual ~ChatRenderer() = default;

  // NOT_FOUND for an empty template; UNIMPLEMENTED when it can neither be evaluated nor recognized.
  static absl::StatusOr<std::unique_ptr<ChatRenderer>> Create(const ChatTemplateSource& source);

  // INVALID_ARGUMENT naming messages[i].role, tools[i], chat_template_kwargs or messages for what
  // the template refuses (raise_exception's own words) or what passes a bound; tools when the
  // template knows none.
  virtual absl::StatusOr<ChatPrompt> Render(const ChatInput& input) const = 0;

  virtual bool knows_tools() const = 0;         // the template reads `tools`
  virtual std::string description() const = 0;  // "jinja", "chatml", "llama3", ...
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_CHAT_RENDERER_H_
