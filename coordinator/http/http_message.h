// A request and a response of HTTP/1.x as plain values.
//
//   HttpResponse response = HttpResponse::Json(200, R"({"object":"list"})");
//   response.headers.push_back({"Retry-After", "3"});
#ifndef TESSERA_COORDINATOR_HTTP_HTTP_MESSAGE_H_
#define TESSERA_COORDINATOR_HTTP_HTTP_MESSAGE_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/string_view.h"

namespace tessera::coordinator {

struct HttpHeader {
  std::string name;
  std::string value;
};

struct HttpRequest {
  std::string method;  // "HEAD" too; its answer is sent without the body
  std::string target;  // as sent: "/v1/models?limit=1"
  std::vector<HttpHeader> headers = {};
  std::string body = {};
  std::shared_ptr<void> body_lease = nullptr;  // its share of the memory for bodies; goes with it

  absl::string_view path() const;  // the target up to "?"
  // Of the first header of that name (whatever its case), empty without.
  absl::string_view header(absl::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::vector<HttpHeader> headers = {};
  std::string body = {};

  static HttpResponse Json(int status, std::string body);
};

struct HttpFraming {
  bool chunked = false;         // otherwise Content-Length is the body's, if has_length
  bool has_length = true;
  bool keep_alive = true;
  std::string_view date = {};   // as in the Date header; empty: none
};

// The head's bytes up to and including the empty line. Line breaks in values become spaces.
std::string FormatHead(const HttpResponse& response, const HttpFraming& framing);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_HTTP_HTTP_MESSAGE_H_
