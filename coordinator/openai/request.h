// JSON bodies of OpenAI's API, with vLLM's extra fields, → the messages that the front door takes.
// Pure. Every refusal is INVALID_ARGUMENT that names the field as the client spelt it.
//
//   TESSERA_ASSIGN_OR_RETURN(OpenAiRequest request,
//                            ParseChatCompletion(body, {.request_id = "r", .created = 1700000000}));
#ifndef TESSERA_COORDINATOR_OPENAI_REQUEST_H_
#define TESSERA_COORDINATOR_OPENAI_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

inline constexpr int kMaxPrompts = 256;   // of one completions request
inline constexpr int kMaxChoices = 1024;  // prompts * n

// How the answer is to look.
struct AnswerStyle {
  bool chat = false;
  bool stream = false;
  bool include_usage = false;
  bool logprobs = false;
  bool prompt_logprobs = false;  // the client asked for them, not only echo
  bool echo = false;             // completions: the prompt before the text
  bool drop_output = false;      // echo with max_tokens 0: the prompt alone
  int prompts = 1;
  int n = 1;
  std::string model = {};  // as in the answer; empty: the one served
  std::string id = {};     // "chatcmpl-...", "cmpl-..."
  int64_t created = 0;     // seconds since 1970
};

struct OpenAiRequest {
  AnswerStyle style;
  std::vector<v1::GenerateRequest> prompts;  // completions: one or more
  std::optional<v1::ChatRequest> chat;       // otherwise
};

struct RequestContext {
  std::string request_id;  // unless the body has one
  int64_t created = 0;
};

absl::StatusOr<OpenAiRequest> ParseCompletion(absl::string_view body,
                                                  const RequestContext& context);
absl::StatusOr<OpenAiRequest> ParseChatCompletion(absl::string_view body,
                                                      const RequestContext& context);

// /tokenize: a prompt, or messages.
struct TokenizeCall {
  v1::TokenizeRequest text;
  std::optional<v1::ChatRequest> chat;
  bool return_token_strs = false;
};
absl::StatusOr<TokenizeCall> ParseTokenize(absl::string_view body);
absl::StatusOr<v1::DetokenizeRequest> ParseDetokenize(absl::string_view body);

// "default" and the empty name are the one model served.
std::string ModelName(absl::string_view name);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_OPENAI_REQUEST_H_
