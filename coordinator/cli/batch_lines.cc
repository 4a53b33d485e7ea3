#include "coordinator/cli/batch_lines.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "coordinator/openai/errors.h"
#include "coordinator/openai/json_input.h"
#include "proto/base/utf8.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using nlohmann::ordered_json;

constexpr char kChatUrl[] = "/v1/chat/completions", kCompletionUrl[] = "/v1/completions";

absl::Status ReadFields(const nlohmann::json& line, BatchRequest* request) {
  JsonFields fields(line);
  request->custom_id = fields.String("custom_id");
  const std::string method = fields.String("method").value_or("POST");
  const std::string url = fields.String("url").value_or("");
  const nlohmann::json* body = fields.Object("body");
  TESSERA_RETURN_IF_ERROR(fields.status());
  if (!request->custom_id) return wire::FieldError("custom_id", "is missing; expected a string");
  if (method != "POST") return wire::FieldError("method", "is not POST");
  if (url != kChatUrl && url != kCompletionUrl) {
    return wire::FieldError(
        "url", absl::StrCat("is ", Quoted(url), "; expected ", kChatUrl, " or ", kCompletionUrl));
  }
  if (body == nullptr) return wire::FieldError("body", "is missing; expected an object");
  request->chat = url == kChatUrl;
  request->body = body->dump();
  return absl::OkStatus();
}

ordered_json Frame(const BatchRequest& request) {
  ordered_json line;
  line["id"] = absl::StrCat("batch_req_", request.line);
  line["custom_id"] = request.custom_id ? ordered_json(*request.custom_id) : ordered_json();
  line["response"] = nullptr;
  line["error"] = nullptr;
  return line;
}

ordered_json Response(int status, const std::string& request_id, const std::string& body) {
  ordered_json response;
  response["status_code"] = status;
  response["request_id"] = request_id;
  response["body"] = ordered_json::parse(body);
  return response;
}

std::string Dumped(const ordered_json& line) {
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

absl::Status AddResult(const std::string& text, BatchResults* results) {
  const auto line = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const bool is_result = line.is_object() && line.contains("custom_id") &&
                         line.contains("response") && line.contains("error");
  if (!is_result) return absl::FailedPreconditionError("is no batch result");
  if (!line["error"].is_null()) ++results->errors;
  if (line["custom_id"].is_string()) {
    results->custom_ids.insert(line["custom_id"].get<std::string>());
  } else if (line["error"].is_object() &&
             line["error"].value("line", nlohmann::json()).is_number()) {
    results->bad_lines.insert(line["error"]["line"].get<int64_t>());
  }
  return absl::OkStatus();
}

}  // namespace

BatchRequest ParseBatchRequest(int64_t line, absl::string_view text) {
  BatchRequest request{.line = line};
  const absl::StatusOr<nlohmann::json> parsed = ParseJsonObject(text);
  request.status = parsed.ok() ? ReadFields(*parsed, &request) : parsed.status();
  return request;
}

std::string BatchResultLine(const BatchRequest& request, const BatchReply& reply) {
  ordered_json line = Frame(request);
  line["response"] = Response(200, reply.request_id, reply.body);
  return Dumped(line);
}

std::string BatchErrorLine(const BatchRequest& request, const absl::Status& why) {
  ordered_json line = Frame(request);
  if (request.status.ok()) {
    line["response"] = Response(HttpStatusOf(why.code()), "", ErrorObject(why));
  }
  ordered_json& error = line["error"];
  error["code"] = request.status.ok() ? "request_failed" : "invalid_line";
  error["message"] = std::string(why.message());
  error["line"] = request.line;
  return Dumped(line);
}

bool BatchResults::Has(const BatchRequest& request) const {
  return request.custom_id ? custom_ids.count(*request.custom_id) > 0
                           : bad_lines.count(request.line) > 0;
}

absl::StatusOr<BatchResults> ReadBatchResults(const std::string& path) {
  BatchResults results;
  if (!std::filesystem::exists(path)) return results;
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::FailedPreconditionError(absl::StrCat("cannot read ", path));
  std::string text;
  uintmax_t whole_bytes = 0;
  for (int64_t number = 1; std::getline(file, text); ++number) {
    if (file.eof()) break;  // no line break behind it: it was being written
    const absl::Status added = AddResult(text, &results);
    if (!added.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("line ", number, " of ", path, " ", added.message()));
    }
    whole_bytes += text.size() + 1;
  }
  file.close();
  std::error_code error;
  if (whole_bytes < std::filesystem::file_size(path, error)) {
    std::filesystem::resize_file(path, whole_bytes, error);
  }
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot cut the torn last line of ", path, ": ", error.message()));
  }
  return results;
}

}  // namespace tessera::coordinator
