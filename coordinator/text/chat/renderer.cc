#include "coordinator/text/chat/renderer.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/text/chat/format.h"
#include "coordinator/text/chat/input_values.h"
#include "coordinator/text/jinja/template.h"
#include "proto/base/utf8.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

// The model's own template writes the prompt.
class JinjaRenderer : public ChatRenderer {
 public:
  JinjaRenderer(JinjaTemplate chat, const ChatTemplateSource& source)
      : chat_(std::move(chat)),
        bos_text_(source.bos_text),
        eos_text_(source.eos_text),
        now_(source.now),
        tool_call_form_(FindToolCallForm()) {}

  absl::StatusOr<ChatPrompt> Render(const ChatInput& input) const override {
    if (input.messages.empty()) return wire::FieldError("messages", "is empty");
    if (!input.tools_json.empty() && !knows_tools()) {
      return wire::FieldError("tools", "are not known to this model's chat template");
    }
    TESSERA_RETURN_IF_ERROR(CheckRoles(input.messages));
    return RenderAs(input, tool_call_form_);
  }

  bool knows_tools() const override { return chat_.Reads("tools"); }
  std::string description() const override { return "jinja"; }

 private:
  absl::Status CheckRoles(const std::vector<ChatInputMessage>& messages) const {
    for (size_t i = 0; i < messages.size(); ++i) {
      const std::string& role = messages[i].role;
      if (role == "system" || role == "user" || role == "assistant") continue;
      const bool is_word = !role.empty() && std::all_of(role.begin(), role.end(), [](char c) {
        return absl::ascii_isalnum(c) || c == '_' || c == '-';
      });
      if (is_word && chat_.HasLiteral(role)) continue;
      return wire::FieldError(absl::StrCat("messages[", i, "].role"),
                              absl::StrCat("is ", Quoted(role),
                                           "; expected system, user or assistant, or another role "
                                           "that this model's chat template names"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ChatPrompt> RenderAs(const ChatInput& input, const ToolCallForm& form) const {
    TESSERA_ASSIGN_OR_RETURN(JinjaInput variables, ChatVariables(input, form));
    variables.variables.emplace_back("bos_token", JinjaValue::Literal(bos_text_));
    variables.variables.emplace_back("eos_token", JinjaValue::Literal(eos_text_));
    variables.now = now_();
    absl::StatusOr<ChatPrompt> prompt = chat_.Render(variables);
    if (prompt.ok()) return prompt;
    const bool is_refusal = prompt.status().GetPayload(kJinjaRaisedUrl).has_value();
    return wire::FieldError(
        "messages", absl::StrCat(is_refusal ? "are refused by this model's chat template: "
                                            : "cannot be rendered by this model's chat template: ",
                                 SanitizeUtf8(prompt.status().message().substr(0, 500))));
  }

  // The first form in which the template writes a tool call out.
  ToolCallForm FindToolCallForm() const {
    constexpr absl::string_view kName = "tessera_probe";
    ChatInput probe{
        .messages = {{.role = "user", .content = "x"},
                     {.role = "assistant",
                      .content = "",
                      .tool_calls_json = absl::StrCat(
                          R"([{"id":"call12345","type":"function","function":{"name":")", kName,
                          R"(","arguments":{"a":"b"}}}])")}}};
    for (const bool empty_content_is_none : {false, true}) {
      for (const bool arguments_are_text : {false, true}) {
        const ToolCallForm form{arguments_are_text, empty_content_is_none};
        const absl::StatusOr<ChatPrompt> prompt = RenderAs(probe, form);
        if (prompt.ok() && absl::StrContains(prompt->text(), kName)) return form;
      }
    }
    return {};
  }

  const JinjaTemplate chat_;
  const std::string bos_text_, eos_text_;
  absl::Time (*const now_)();
  const ToolCallForm tool_call_form_;
};

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
  if (absl::StripAsciiWhitespace(source.jinja).empty()) {
    return absl::NotFoundError("the model has no chat template");
  }
  absl::StatusOr<JinjaTemplate> chat = JinjaTemplate::Parse(source.jinja);
  if (chat.ok()) return std::make_unique<JinjaRenderer>(*std::move(chat), source);
  absl::StatusOr<std::unique_ptr<ChatRenderer>> family = CreateFamilyRenderer(source);
  if (family.ok()) return family;
  return absl::UnimplementedError(absl::StrCat("the model's chat template cannot be evaluated (",
                                               SanitizeUtf8(chat.status().message()),
                                               ") and is of no known family"));
}

}  // namespace tessera::coordinator
