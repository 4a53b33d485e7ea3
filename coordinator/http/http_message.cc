#include "coordinator/http/http_message.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tessera::coordinator {
namespace {

absl::string_view Reason(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Payload Too Large";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 499: return "Client Closed Request";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
  }
  return "Unknown";
}

void AppendHeader(absl::string_view name, absl::string_view value, std::string& out) {
  absl::StrAppend(&out, name, ": ");
  for (const char c : value) out.push_back(c == '\r' || c == '\n' ? ' ' : c);
  out.append("\r\n");
}

}  // namespace

absl::string_view HttpRequest::path() const {
  const absl::string_view whole(target);
  return whole.substr(0, whole.find('?'));
}

absl::string_view HttpRequest::header(absl::string_view name) const {
  for (const HttpHeader& header : headers) {
    if (absl::EqualsIgnoreCase(header.name, name)) return header.value;
  }
  return {};
}

HttpResponse HttpResponse::Json(int status, std::string body) {
  return {.status = status,
          .headers = {{"Content-Type", "application/json"}},
          .body = std::move(body)};
}

std::string FormatHead(const HttpResponse& response, const HttpFraming& framing) {
  std::string out = absl::StrCat("HTTP/1.1 ", response.status, " ", Reason(response.status), "\r\n");
  if (!framing.date.empty()) {
    AppendHeader("Date", absl::string_view(framing.date.data(), framing.date.size()), out);
  }
  for (const HttpHeader& header : response.headers) AppendHeader(header.name, header.value, out);
  if (framing.chunked) {
    AppendHeader("Transfer-Encoding", "chunked", out);
  } else if (framing.has_length && response.status != 204) {
    AppendHeader("Content-Length", absl::StrCat(response.body.size()), out);
  }
  AppendHeader("Connection", framing.keep_alive ? "keep-alive" : "close", out);
  out.append("\r\n");
  return out;
}

}  // namespace tessera::coordinator
