// The lines of OpenAI's batch files: requests in, results out. Pure but for ReadResults.
//
//   {"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{...}}
//   {"id":"...","custom_id":"a","response":{"status_code":200,"request_id":"...","body":{...}},
//    "error":null}
#ifndef TESSERA_COORDINATOR_CLI_BATCH_LINES_H_
#define TESSERA_COORDINATOR_CLI_BATCH_LINES_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tessera::coordinator {

struct BatchRequest {
  int64_t line = 0;  // from 1
  std::optional<std::string> custom_id = std::nullopt;
  bool chat = false;  // else completions
  std::string body = {};
  absl::Status status = {};  // INVALID_ARGUMENT for a bad line; then there is no body
};

BatchRequest ParseBatchRequest(int64_t line, absl::string_view text);

struct BatchReply {
  std::string request_id;
  std::string body;  // JSON
  int64_t completion_tokens = 0;
};

// One line each, with its line break. A failed request has the error object in its body, as HTTP
// would have answered it, and a bad line has no response.
std::string BatchResultLine(const BatchRequest& request, const BatchReply& reply);
std::string BatchErrorLine(const BatchRequest& request, const absl::Status& why);

// What a result file holds already.
struct BatchResults {
  std::set<std::string> custom_ids;
  std::set<int64_t> bad_lines;  // of the input, without a custom_id
  int64_t errors = 0;

  bool Has(const BatchRequest& request) const;
};

// A file that is not there is empty. A torn last line is cut off the file. FAILED_PRECONDITION for
// a line that is no result: the file is somebody's else.
absl::StatusOr<BatchResults> ReadBatchResults(const std::string& path);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_BATCH_LINES_H_
