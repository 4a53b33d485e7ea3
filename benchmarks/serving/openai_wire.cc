#include "benchmarks/serving/openai_wire.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tessera::benchmarks {
namespace {

using nlohmann::json;

json ParseOrDiscard(absl::string_view text) {
  return json::parse(text.begin(), text.end(), /*cb=*/nullptr, /*allow_exceptions=*/false);
}

// The member, or null when `object` is none or has none.
const json& Member(const json& object, const char* name) {
  static const json null;
  if (!object.is_object()) return null;
  const auto found = object.find(name);
  return found == object.end() ? null : *found;
}

std::string StringMember(const json& object, const char* name) {
  const json& member = Member(object, name);
  return member.is_string() ? member.get<std::string>() : "";
}

int CountMember(const json& object, const char* name) {
  const json& member = Member(object, name);
  if (!member.is_number_integer()) return 0;
  return static_cast<int>(std::clamp(member.get<double>(), 0.0, 2e9));
}

std::string TextOf(const json& choice) {
  const json& delta = Member(choice, "delta");
  if (!delta.is_object()) return StringMember(choice, "text");
  return StringMember(delta, "reasoning_content") + StringMember(delta, "content");
}

// Whether a choice of a stream's event tells of a token.
bool IsPiece(const json& choice) {
  if (!TextOf(choice).empty()) return true;
  if (Member(choice, "finish_reason").is_string()) return false;
  const json& delta = Member(choice, "delta");
  if (!delta.is_object()) return Member(choice, "text").is_string();
  return Member(delta, "content").is_string() && !delta.contains("role");
}

}  // namespace

absl::StatusOr<Target> ParseUrl(absl::string_view url) {
  absl::string_view rest = url;
  if (!absl::ConsumePrefix(&rest, "http://")) {
    return absl::InvalidArgumentError(
        absl::StrCat("url '", url, "': expected http://HOST[:PORT][/PATH] (no TLS)"));
  }
  const size_t slash = std::min(rest.find('/'), rest.size());
  absl::string_view authority = rest.substr(0, slash);
  absl::string_view path = rest.substr(slash);
  absl::ConsumeSuffix(&path, "/");
  absl::ConsumeSuffix(&path, "/v1");

  Target target{.host = "", .port = "80", .path = std::string(path)};
  const size_t colon = authority.rfind(':');
  const bool bracketed = absl::StartsWith(authority, "[");
  if (colon != absl::string_view::npos && (!bracketed || authority[colon - 1] == ']')) {
    target.port = std::string(authority.substr(colon + 1));
    authority = authority.substr(0, colon);
  }
  if (bracketed && absl::EndsWith(authority, "]")) {
    authority = authority.substr(1, authority.size() - 2);  // [::1]
  }
  target.host = std::string(authority);
  int port = 0;
  if (target.host.empty() || !absl::SimpleAtoi(target.port, &port) || port < 1 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("url '", url, "': expected a host, and a port of 1 .. 65535"));
  }
  return target;
}

std::string RequestPath(const Workload& workload) {
  return workload.endpoint == "chat" ? "/v1/chat/completions" : "/v1/completions";
}

std::string RequestBody(const Workload& workload, const BodyOptions& options,
                        const std::vector<Message>& conversation, int max_tokens) {
  json body = {{"model", options.model},
               {"max_tokens", max_tokens},
               {"temperature", workload.temperature},
               {"stream", true}};
  if (workload.endpoint == "chat") {
    json& messages = body["messages"] = json::array();
    for (const Message& message : conversation) {
      messages.push_back({{"role", message.role}, {"content", message.content}});
    }
  } else {
    std::string prompt;
    for (const Message& message : conversation) prompt += message.content;
    body["prompt"] = std::move(prompt);
  }
  if (options.send_stream_options) body["stream_options"] = {{"include_usage", true}};
  if (workload.ignore_eos && options.send_ignore_eos) body["ignore_eos"] = true;
  if (workload.ignore_eos && options.send_min_tokens) body["min_tokens"] = max_tokens;
  body.update(workload.extra_body);
  return body.dump();
}

absl::StatusOr<StreamChunk> ParseStreamChunk(absl::string_view data) {
  StreamChunk chunk;
  if (data == "[DONE]") {
    chunk.done = true;
    return chunk;
  }
  const json object = ParseOrDiscard(data);
  if (!object.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a stream event is no JSON object: '", data.substr(0, 80), "'"));
  }
  if (object.contains("error")) {
    chunk.error = ErrorMessage(data);
    return chunk;
  }
  const json& choices = Member(object, "choices");
  if (choices.is_array()) {
    for (const json& choice : choices) {
      chunk.text += TextOf(choice);
      chunk.is_piece |= IsPiece(choice);
    }
  }
  if (const json& usage = Member(object, "usage"); usage.is_object()) {
    chunk.usage = {
        .prompt_tokens = CountMember(usage, "prompt_tokens"),
        .completion_tokens = CountMember(usage, "completion_tokens"),
        .cached_tokens = CountMember(Member(usage, "prompt_tokens_details"), "cached_tokens")};
  }
  return chunk;
}

std::string ErrorMessage(absl::string_view body) {
  const json object = ParseOrDiscard(body);
  const json& error = Member(object, "error");
  std::string message =
      error.is_string() ? error.get<std::string>() : StringMember(error, "message");
  if (message.empty()) message = std::string(body);
  message.resize(std::min<size_t>(message.size(), 200));
  std::replace_if(
      message.begin(), message.end(), [](char c) { return c < ' '; }, ' ');
  return message;
}

int TokenCount(absl::string_view body) {
  const json object = ParseOrDiscard(body);
  if (const json& count = Member(object, "count"); count.is_number_integer()) {
    return CountMember(object, "count");
  }
  const json& tokens = Member(object, "tokens");
  return tokens.is_array() ? static_cast<int>(tokens.size()) : -1;
}

std::string FirstModel(absl::string_view body) {
  const json object = ParseOrDiscard(body);
  const json& data = Member(object, "data");
  return data.is_array() && !data.empty() ? StringMember(data[0], "id") : "";
}

}  // namespace tessera::benchmarks
