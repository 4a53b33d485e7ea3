#include "coordinator/openai/chat_fields.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace tessera::coordinator {
namespace {

using nlohmann::json;

constexpr size_t kMaxMessages = 4096;
constexpr size_t kMaxTools = 128;

// Text, or a list of parts that are all text.
std::optional<std::string> ReadContent(JsonFields& message) {
  const json* content = message.Any("content");
  if (content == nullptr) return std::nullopt;
  if (content->is_string()) return content->get<std::string>();
  const json* parts = message.Array("content");
  if (parts == nullptr) return std::nullopt;
  std::string text;
  for (size_t i = 0; i < parts->size(); ++i) {
    const json& part = (*parts)[i];
    const std::string name = absl::StrCat("content[", i, "]");
    if (!part.is_object()) {
      message.Fail(name, absl::StrCat("is ", JsonTypeName(part), "; expected an object"));
      return std::nullopt;
    }
    const json type = part.value("type", json());
    const json value = part.value("text", json());
    if (type != "text") {
      message.Fail(absl::StrCat(name, ".type"),
                   "is not \"text\"; this model takes text alone (no images, audio or files)");
      return std::nullopt;
    }
    if (!value.is_string()) {
      message.Fail(absl::StrCat(name, ".text"),
                   absl::StrCat("is ", JsonTypeName(value), "; expected a string"));
      return std::nullopt;
    }
    text.append(value.get_ref<const std::string&>());
  }
  return text;
}

void ReadMessage(JsonFields& message, v1::ChatMessage* out) {
  const std::optional<std::string> role = message.String("role");
  if (!role) return message.Fail("role", "is missing");
  if (*role != "system" && *role != "developer" && *role != "user" && *role != "assistant" &&
      *role != "tool") {
    return message.Fail("role", "is unknown; expected system, developer, user, assistant or tool");
  }
  out->set_role(*role == "developer" ? "system" : *role);
  const std::optional<std::string> content = ReadContent(message);
  if (content) out->set_content(*content);
  if (auto name = message.String("name")) out->set_name(*name);
  if (auto id = message.String("tool_call_id")) out->set_tool_call_id(*id);
  const json* calls = message.Array("tool_calls");
  if (calls != nullptr && !calls->empty()) out->set_tool_calls_json(calls->dump());
  if (!content && (calls == nullptr || calls->empty() || *role != "assistant")) {
    message.Fail("content", "is missing");
  }
}

void ReadMessages(JsonFields& fields, v1::ChatRequest* request) {
  const json* messages = fields.Array("messages");
  if (messages == nullptr) return fields.Fail("messages", "is missing");
  if (messages->empty()) return fields.Fail("messages", "is empty; expected at least one");
  if (messages->size() > kMaxMessages) {
    return fields.Fail("messages", absl::StrCat("has ", messages->size(), " messages; at most ",
                                                kMaxMessages, " are read"));
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    const json& message = (*messages)[i];
    if (!message.is_object()) {
      return fields.Fail(absl::StrCat("messages[", i, "]"),
                         absl::StrCat("is ", JsonTypeName(message), "; expected an object"));
    }
    JsonFields inner(message, absl::StrCat("messages[", i, "]."));
    ReadMessage(inner, request->add_messages());
    if (!inner.status().ok()) return fields.Adopt(inner.status());
  }
}

// Whether the model may see the tools. Which tool it calls, if any, is up to the model.
bool ReadToolChoice(JsonFields& fields) {
  const json* choice = fields.Any("tool_choice");
  if (choice == nullptr || *choice == "auto") return true;
  if (*choice == "none") return false;
  fields.Fail("tool_choice", "can be \"auto\" or \"none\": calls cannot be forced on this server");
  return false;
}

void ReadTools(JsonFields& fields, v1::ChatRequest* request) {
  const bool wanted = ReadToolChoice(fields);
  const json* tools = fields.Array("tools");
  if (tools == nullptr || !wanted) return;
  if (tools->size() > kMaxTools) {
    return fields.Fail("tools", absl::StrCat("has ", tools->size(), " tools; at most ", kMaxTools));
  }
  for (size_t i = 0; i < tools->size(); ++i) {
    const json& tool = (*tools)[i];
    if (!tool.is_object() || tool.value("type", json()) != "function" ||
        !tool.value("function", json()).is_object()) {
      return fields.Fail(absl::StrCat("tools[", i, "]"),
                         "is not {\"type\": \"function\", \"function\": {...}}");
    }
    request->add_tools_json(tool.dump());
  }
}

}  // namespace

void ReadChatPrompt(JsonFields& fields, v1::ChatRequest* request) {
  ReadMessages(fields, request);
  ReadTools(fields, request);
  if (const json* kwargs = fields.Object("chat_template_kwargs")) {
    request->set_chat_template_kwargs_json(kwargs->dump());
  }
}

}  // namespace tessera::coordinator
