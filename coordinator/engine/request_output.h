// One request's tokens → the messages its client sees. Not thread-safe; one per request.
//
//   RequestOutput output(options);
//   OutputChunk chunk = output.Take(emission);
//   if (chunk.is_last) sink->Finish(std::move(chunk.message));
#ifndef TESSERA_COORDINATOR_ENGINE_REQUEST_OUTPUT_H_
#define TESSERA_COORDINATOR_ENGINE_REQUEST_OUTPUT_H_

#include <optional>
#include <string>
#include <vector>

#include "coordinator/schedule/scheduler.h"
#include "coordinator/text/tokenizer/text_stream.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

struct RequestOutputOptions {
  const Tokenizer* tokenizer = nullptr;  // must outlive the output; null: ids only
  std::vector<std::string> stop = {};
  TextBefore text_before = TextBefore::kNothing;
  int choices = 1;
  int min_tokens = 0;        // stop strings completed earlier are text
  int num_logprobs = -1;     // alternatives beside the chosen token; -1: none at all
  int prompt_logprobs = -1;  // likewise, of the prompt's tokens
  bool is_score = false;     // the prompt's log probabilities are all there is
  int prompt_tokens = 0;
  std::string request_id = {};
};

// What one emission adds for the client.
struct OutputChunk {
  v1::GenerateResponse message;
  bool is_empty = true;         // nothing to send yet
  bool choice_stopped = false;  // by a stop string, which the scheduler knows nothing of
  bool is_last = false;         // the message is the request's last
};

class RequestOutput {
 public:
  explicit RequestOutput(RequestOutputOptions options);

  // One that goes on, or that ends with kStopToken or kLength. A stop token has an id and no text.
  OutputChunk Take(const Emission& emission);

  int prompt_tokens() const { return options_.prompt_tokens; }
  int completion_tokens() const { return completion_tokens_; }  // of all choices

 private:
  struct Choice {
    std::optional<TextStream> text;
    int tokens = 0;
    bool ended = false;
  };

  void TakeTargets(const std::vector<v1::PromptLogprob>& targets);
  void AddToken(const v1::SampledToken& token, bool is_stop_token, Choice& choice,
                v1::GenerateResponse& message);
  void EndChoice(v1::FinishReason reason, Choice& choice, OutputChunk& chunk);
  v1::TokenLogprob Logprob(int32_t id, float value) const;
  // Of a SampledToken or a PromptLogprob.
  template <typename Token>
  v1::TokenLogprobs Logprobs(const Token& token, int most) const;

  RequestOutputOptions options_;
  std::vector<Choice> choices_;
  v1::GenerateResponse opening_;  // request id and prompt_logprobs, until the first message takes them
  bool opened_ = false;
  int live_choices_ = 0;
  int completion_tokens_ = 0;
  int cached_tokens_ = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_ENGINE_REQUEST_OUTPUT_H_
