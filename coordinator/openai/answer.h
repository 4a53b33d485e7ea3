// The front door's chunks → OpenAI's answers: whole JSON objects or server-sent events. Not
// thread-safe; one per request.
//
//   OpenAiAnswer answer(style);
//   answer.Stream(0, std::move(chunk), out);   // "data: {...}\n\n"
//   answer.EndStream(out);                     // usage if asked for, and "data: [DONE]\n\n"
// or
//   answer.Add(0, std::move(chunk));
//   std::string body = answer.Whole();
#ifndef TESSERA_COORDINATOR_OPENAI_ANSWER_H_
#define TESSERA_COORDINATOR_OPENAI_ANSWER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "coordinator/openai/json_writer.h"
#include "coordinator/openai/request.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

class OpenAiAnswer {
 public:
  explicit OpenAiAnswer(AnswerStyle style);

  const AnswerStyle& style() const { return style_; }
  // For echo: the prompt's text, before the first chunk of that prompt.
  void SetPromptText(int prompt, std::string text);

  void Stream(int prompt, v1::GenerateResponse chunk, std::string& out);
  void EndStream(std::string& out);

  void Add(int prompt, v1::GenerateResponse chunk);
  std::string Whole();

 private:
  struct Choice {
    bool begun = false;
    int64_t text_offset = 0;  // characters of the tokens so far, for completions' logprobs
    std::string text;         // the rest: Whole alone
    std::vector<v1::TokenLogprobs> logprobs;
    v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  };
  struct Prompt {
    std::string text;
    std::vector<v1::TokenLogprobs> logprobs;
  };
  struct Delta {
    absl::string_view text;
    const std::vector<v1::TokenLogprobs>* logprobs;  // null: none
    v1::FinishReason finish_reason;
    bool role;
  };

  Choice& Begin(int prompt, int index, v1::GenerateResponse& chunk);
  std::vector<v1::TokenLogprobs> TakeLogprobs(v1::GenerateResponse& chunk) const;
  void WriteHead(JsonWriter& w, absl::string_view object) const;
  void WriteEvent(int index, const Delta& delta, std::string& out);
  void WriteLogprobs(JsonWriter& w, const std::vector<v1::TokenLogprobs>& logprobs, Choice& choice);
  void WriteCompletionLogprobs(JsonWriter& w, const std::vector<v1::TokenLogprobs>& logprobs,
                               Choice& choice);
  void WriteUsage(JsonWriter& w) const;
  void WriteChoice(JsonWriter& w, int index);

  const AnswerStyle style_;
  std::vector<Choice> choices_;  // prompt * n + choice
  std::vector<Prompt> prompts_;
  int64_t prompt_tokens_ = 0;
  int64_t completion_tokens_ = 0;
  int64_t cached_tokens_ = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_OPENAI_ANSWER_H_
