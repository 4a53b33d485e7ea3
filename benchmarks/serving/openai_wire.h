// OpenAI's JSON, as far as a load generator speaks it. Pure.
//
//   std::string body = RequestBody(workload, {.model = "m"}, conversation, /*max_tokens=*/64);
//   TESSERA_ASSIGN_OR_RETURN(StreamChunk chunk, ParseStreamChunk(data_of_event));
#ifndef TESSERA_BENCHMARKS_SERVING_OPENAI_WIRE_H_
#define TESSERA_BENCHMARKS_SERVING_OPENAI_WIRE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "benchmarks/serving/workload.h"

namespace tessera::benchmarks {

// Where the server is. Plain HTTP only.
struct Target {
  std::string host;
  std::string port;  // decimal
  std::string path;  // in front of "/v1/...", no slash at its end
};

// "http://host[:port][/path][/v1]". INVALID_ARGUMENT says what is wrong.
absl::StatusOr<Target> ParseUrl(absl::string_view url);

struct Message {
  std::string role;  // system, user, assistant
  std::string content;
};

// Fields beyond OpenAI's that not every server takes.
struct BodyOptions {
  std::string model;
  bool send_ignore_eos = true;
  bool send_min_tokens = true;
  bool send_stream_options = true;
};

// A streaming request. For the completions endpoint the messages' contents are joined.
std::string RequestBody(const Workload& workload, const BodyOptions& options,
                        const std::vector<Message>& conversation, int max_tokens);

// "/v1/completions" or "/v1/chat/completions".
std::string RequestPath(const Workload& workload);

struct StreamUsage {
  int prompt_tokens = 0;
  int completion_tokens = 0;
  int cached_tokens = 0;
};

struct StreamChunk {
  bool done = false;  // "[DONE]"
  // Of the answer: text, or an empty one that stands for a token of which no character is complete
  // yet. Not what only opens or closes a choice.
  bool is_piece = false;
  std::string text;
  std::optional<StreamUsage> usage;
  std::string error;  // the server's message, when the stream broke
};

// INVALID_ARGUMENT when `data` is not what OpenAI's streams carry.
absl::StatusOr<StreamChunk> ParseStreamChunk(absl::string_view data);

// The message of an error body, or its beginning when it has none; one line, at most 200 bytes.
std::string ErrorMessage(absl::string_view body);

// How many tokens a tokenize answer speaks of ("count", or the length of "tokens"); -1: none.
int TokenCount(absl::string_view body);
// The first model of a /v1/models answer; empty: none.
std::string FirstModel(absl::string_view body);

}  // namespace tessera::benchmarks

#endif  // TESSERA_BENCHMARKS_SERVING_OPENAI_WIRE_H_
