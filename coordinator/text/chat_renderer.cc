#include "coordinator/text/chat_renderer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/text/chat_format.h"
#include "proto/wire/status_builders.h"
#include "proto/wire/status_macros.h"

namespace tessera::coordinator {
namespace {

// The recognized family writes the prompt: roles and contents, nothing else.
class FamilyRenderer : public ChatRenderer {
 public:
  explicit FamilyRenderer(ChatFormat format) : format_(std::move(format)) {}

  absl::StatusOr<ChatPrompt> Render(const ChatInput& input) const override {
    TESSERA_RETURN_IF_ERROR(CheckSupported(input));
    std::vector<ChatTurn> turns;
    turns.reserve(input.messages.size());
    for (const ChatInputMessage& message : input.messages) {
      turns.push_back({message.role, message.content});
    }
    return RenderChatPrompt(format_, turns);
  }

  bool knows_tools() const override { return false; }
  std::string description() const override { return std::string(ChatFamilyName(format_.family)); }

 private:
  absl::Status CheckSupported(const ChatInput& input) const {
    const std::string family = absl::StrCat("the ", description(), " format of this model");
    if (!input.tools_json.empty()) {
      return wire::FieldError("tools", absl::StrCat("are not known to ", family));
    }
    if (!input.template_kwargs_json.empty()) {
      return wire::FieldError("chat_template_kwargs", absl::StrCat("are not known to ", family));
    }
    if (!input.add_generation_prompt) {
      return wire::FieldError("add_generation_prompt",
                              absl::StrCat("is false; ", family, " can only open an answer"));
    }
    for (size_t i = 0; i < input.messages.size(); ++i) {
      if (input.messages[i].tool_calls_json.empty()) continue;
      return wire::FieldError(absl::StrCat("messages[", i, "].tool_calls"),
                              absl::StrCat("are not known to ", family));
    }
    return absl::OkStatus();
  }

  const ChatFormat format_;
};

absl::StatusOr<std::unique_ptr<ChatRenderer>> CreateFamilyRenderer(
    const ChatTemplateSource& source) {
  TESSERA_ASSIGN_OR_RETURN(ChatFormat format, RecognizeChatFormat(source.jinja));
  if (!source.bos_text.empty()) format.bos_text = source.bos_text;
  if (!source.eos_text.empty()) format.eos_text = source.eos_text;
  return std::make_unique<FamilyRenderer>(std::move(format));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatRenderer>> ChatRenderer::Create(
    const ChatTemplateSource& source) {
  return CreateFamilyRenderer(source);
}

}  // namespace tessera::coordinator
