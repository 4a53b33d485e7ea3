#include "coordinator/openai/errors.h"

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "coordinator/openai/json_writer.h"
#include "google/rpc/error_details.pb.h"

namespace tessera::coordinator {
namespace {

constexpr absl::string_view kBadRequestUrl = "type.googleapis.com/google.rpc.BadRequest";
constexpr size_t kMaxMessageBytes = 2048;

struct Kind {
  absl::string_view type;
  absl::string_view code;  // empty: null
};

Kind KindOf(int status) {
  switch (status) {
    case 401: return {"invalid_request_error", "invalid_api_key"};
    case 403: return {"permission_error", "permission_denied"};
    case 404: return {"invalid_request_error", "not_found"};
    case 405: return {"invalid_request_error", "method_not_allowed"};
    case 408: return {"invalid_request_error", "request_timeout"};
    case 409: return {"invalid_request_error", "conflict"};
    case 413: return {"invalid_request_error", "request_too_large"};
    case 415: return {"invalid_request_error", "unsupported_media_type"};
    case 429: return {"rate_limit_error", "rate_limit_exceeded"};
    case 431: return {"invalid_request_error", "headers_too_large"};
    case 499: return {"request_aborted", "aborted"};
    case 501: return {"invalid_request_error", "not_supported"};
    case 503: return {"service_unavailable_error", "unavailable"};
    case 504: return {"timeout_error", "deadline_exceeded"};
  }
  if (status >= 500) return {"server_error", "internal_error"};
  return {"invalid_request_error", ""};
}

std::string Object(absl::string_view message, absl::string_view param, const Kind& kind) {
  std::string out;
  JsonWriter(out).Object([&](JsonWriter& w) {
    w.Key("error").Object([&](JsonWriter& error) {
      error.Key("message").String(message.substr(0, kMaxMessageBytes));
      error.Key("type").String(kind.type);
      error.Key("param");
      param.empty() ? error.Null() : error.String(param);
      error.Key("code");
      kind.code.empty() ? error.Null() : error.String(kind.code);
    });
  });
  return out;
}

// The gRPC messages' names of fields → this API's.
std::string InHttpWords(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"sampling.structured.json_schema", "json_schema"},
                                    {"sampling.structured.", ""},
                                    {"structured.json_schema", "json_schema"},
                                    {"structured.", ""},
                                    {"sampling.", ""},
                                    {"token_ids.ids", "prompt"}});
}

std::string FieldOf(const absl::Status& why) {
  const auto payload = why.GetPayload(kBadRequestUrl);
  google::rpc::BadRequest detail;
  if (!payload || !detail.ParseFromString(std::string(*payload))) return "";
  if (detail.field_violations().empty()) return "";
  return InHttpWords(detail.field_violations(0).field());
}

}  // namespace

int HttpStatusOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk: return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition: return 400;
    case absl::StatusCode::kUnauthenticated: return 401;
    case absl::StatusCode::kPermissionDenied: return 403;
    case absl::StatusCode::kNotFound: return 404;
    case absl::StatusCode::kAlreadyExists: return 409;
    case absl::StatusCode::kResourceExhausted: return 429;
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kAborted: return 499;
    case absl::StatusCode::kUnimplemented: return 501;
    case absl::StatusCode::kUnavailable: return 503;
    case absl::StatusCode::kDeadlineExceeded: return 504;
    default: return 500;
  }
}

std::string ErrorObject(const absl::Status& why) {
  Kind kind = KindOf(HttpStatusOf(why.code()));
  std::string param = FieldOf(why);
  if (why.code() == absl::StatusCode::kNotFound && (param.empty() || param == "model")) {
    kind.code = "model_not_found";
    param = "model";
  }
  return Object(InHttpWords(why.message()), param, kind);
}

std::string ErrorObject(int http_status, absl::string_view message) {
  return Object(message, "", KindOf(http_status));
}

}  // namespace tessera::coordinator
