#include "coordinator/text/chat/input_values.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/text/jinja/json.h"
#include "coordinator/text/jinja/print.h"
#include "proto/base/utf8.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using Value = JinjaValue;

absl::StatusOr<Value> ParseField(absl::string_view json, absl::string_view field) {
  absl::StatusOr<Value> value = ParseJsonContent(json);
  if (!value.ok()) return wire::FieldError(field, value.status().message());
  return value;
}

Value AsDict(JinjaDict dict) {
  return Value(Value::Dict(std::make_shared<const JinjaDict>(std::move(dict))));
}

absl::Status Set(JinjaDict& dict, absl::string_view name, Value value) {
  return dict.Set(Value::Literal(name), std::move(value));
}

// {..., "arguments": X} with X in the form wanted: text ↔ object.
absl::StatusOr<Value> WithArguments(const JinjaDict& function, bool as_text) {
  JinjaDict changed = function;
  const Value* arguments = function.Find("arguments");
  if (arguments == nullptr) return AsDict(std::move(changed));
  if (arguments->text() != nullptr && !as_text) {
    const absl::StatusOr<Value> parsed = ParseJsonContent(arguments->text()->text());
    // Models do write arguments that are no JSON; they stay the text they are.
    if (parsed.ok() && parsed->dict() != nullptr) {
      TESSERA_RETURN_IF_ERROR(Set(changed, "arguments", *parsed));
    }
  } else if (arguments->dict() != nullptr && as_text) {
    JinjaBudget budget({.steps = arguments->nodes(), .bytes = SIZE_MAX, .text_bytes = SIZE_MAX});
    TESSERA_ASSIGN_OR_RETURN(ChatPrompt json, JinjaToJson(*arguments, {}, budget));
    TESSERA_RETURN_IF_ERROR(Set(changed, "arguments", Value::Content(json.text())));
  }
  return AsDict(std::move(changed));
}

absl::StatusOr<Value> ToolCalls(absl::string_view json, absl::string_view field, bool as_text) {
  TESSERA_ASSIGN_OR_RETURN(const Value calls, ParseField(json, field));
  if (calls.list() == nullptr) return wire::FieldError(field, "is no list");
  std::vector<Value> changed;
  for (const Value& call : calls.list()->items) {
    if (call.dict() == nullptr) {
      return wire::FieldError(field, "has an entry that is no JSON object");
    }
    JinjaDict copy = *call.dict();
    const Value* function = copy.Find("function");
    if (function != nullptr && function->dict() != nullptr) {
      TESSERA_ASSIGN_OR_RETURN(Value with, WithArguments(*function->dict(), as_text));
      TESSERA_RETURN_IF_ERROR(Set(copy, "function", std::move(with)));
    }
    changed.push_back(AsDict(std::move(copy)));
  }
  return JinjaList::Make(std::move(changed));
}

absl::StatusOr<Value> Message(const ChatInputMessage& message, absl::string_view field,
                              const ToolCallForm& form) {
  JinjaDict dict;
  const bool has_calls = !message.tool_calls_json.empty();
  TESSERA_RETURN_IF_ERROR(Set(dict, "role", Value::Literal(message.role)));
  const bool is_none = has_calls && message.content.empty() && form.empty_content_is_none;
  TESSERA_RETURN_IF_ERROR(
      Set(dict, "content", is_none ? Value(Value::None{}) : Value::Content(message.content)));
  if (message.name) TESSERA_RETURN_IF_ERROR(Set(dict, "name", Value::Content(*message.name)));
  if (has_calls) {
    TESSERA_ASSIGN_OR_RETURN(Value calls,
                             ToolCalls(message.tool_calls_json, absl::StrCat(field, ".tool_calls"),
                                       form.arguments_are_text));
    TESSERA_RETURN_IF_ERROR(Set(dict, "tool_calls", std::move(calls)));
  }
  if (message.tool_call_id) {
    TESSERA_RETURN_IF_ERROR(Set(dict, "tool_call_id", Value::Content(*message.tool_call_id)));
  }
  return AsDict(std::move(dict));
}

absl::StatusOr<Value> Messages(const ChatInput& input, const ToolCallForm& form) {
  std::vector<Value> messages;
  messages.reserve(input.messages.size());
  for (size_t i = 0; i < input.messages.size(); ++i) {
    TESSERA_ASSIGN_OR_RETURN(Value message,
                             Message(input.messages[i], absl::StrCat("messages[", i, "]"), form));
    messages.push_back(std::move(message));
  }
  return JinjaList::Make(std::move(messages));
}

absl::StatusOr<Value> Tools(const std::vector<std::string>& tools_json) {
  if (tools_json.empty()) return Value(Value::None{});
  std::vector<Value> tools;
  for (size_t i = 0; i < tools_json.size(); ++i) {
    const std::string field = absl::StrCat("tools[", i, "]");
    TESSERA_ASSIGN_OR_RETURN(Value tool, ParseField(tools_json[i], field));
    if (tool.dict() == nullptr) return wire::FieldError(field, "is no JSON object");
    tools.push_back(std::move(tool));
  }
  return JinjaList::Make(std::move(tools));
}

absl::Status AddArguments(absl::string_view json, JinjaInput& variables) {
  if (json.empty()) return absl::OkStatus();
  constexpr absl::string_view kField = "chat_template_kwargs";
  constexpr std::array<absl::string_view, 6> kTaken = {
      "messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "raise_exception"};
  TESSERA_ASSIGN_OR_RETURN(const Value arguments, ParseField(json, kField));
  if (arguments.dict() == nullptr) return wire::FieldError(kField, "is no JSON object");
  for (const JinjaDict::Entry& entry : arguments.dict()->entries()) {
    const std::string& name = entry.key.text()->text();
    if (std::find(kTaken.begin(), kTaken.end(), name) != kTaken.end()) {
      return wire::FieldError(kField, absl::StrCat("may not set ", Quoted(name)));
    }
    variables.variables.emplace_back(name, entry.value);
  }
  return absl::OkStatus();
}

// Enough for any template over this conversation, and no more than a few milliseconds beyond it.
JinjaLimits LimitsFor(const ChatInput& input) {
  size_t bytes = input.template_kwargs_json.size();
  for (const std::string& tool : input.tools_json) bytes += tool.size();
  for (const ChatInputMessage& message : input.messages) {
    bytes += message.content.size() + message.tool_calls_json.size();
    bytes += message.name.value_or("").size() + message.tool_call_id.value_or("").size();
  }
  JinjaLimits limits;
  limits.steps += 250 * input.messages.size() + bytes / 4;
  limits.bytes += 64 * bytes + 2048 * input.messages.size();
  limits.text_bytes += 8 * bytes + 1024 * input.messages.size();
  return limits;
}

}  // namespace

absl::StatusOr<JinjaInput> ChatVariables(const ChatInput& input, const ToolCallForm& form) {
  JinjaInput variables{.variables = {}, .limits = LimitsFor(input)};
  TESSERA_ASSIGN_OR_RETURN(Value messages, Messages(input, form));
  TESSERA_ASSIGN_OR_RETURN(Value tools, Tools(input.tools_json));
  variables.variables.emplace_back("messages", std::move(messages));
  variables.variables.emplace_back("tools", std::move(tools));
  variables.variables.emplace_back("documents", Value(Value::None{}));
  variables.variables.emplace_back("add_generation_prompt", Value(input.add_generation_prompt));
  TESSERA_RETURN_IF_ERROR(AddArguments(input.template_kwargs_json, variables));
  return variables;
}

}  // namespace tessera::coordinator
