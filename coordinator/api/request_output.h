// One request's tokens → the chunks its client sees. Not thread-safe; one per request.
//
//   RequestOutput output(options);
//   v1::GenerateResponse chunk = output.Push(token, /*is_stop_token=*/false);
//   if (output.stopped()) output.Finish(v1::STOP, chunk);   // a stop string was completed
//   sink->Push(std::move(chunk));
#ifndef TESSERA_COORDINATOR_API_REQUEST_OUTPUT_H_
#define TESSERA_COORDINATOR_API_REQUEST_OUTPUT_H_

#include <optional>
#include <string>
#include <vector>

#include "coordinator/text/text_stream.h"
#include "coordinator/text/tokenizer.h"
#include "tessera/v1/cluster.pb.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

struct RequestOutputOptions {
  const Tokenizer* tokenizer = nullptr;  // must outlive the output; null: ids only
  std::vector<std::string> stop;
  TextBefore text_before = TextBefore::kNothing;
  int num_logprobs = -1;  // alternatives beside the chosen token; -1: none at all
  int prompt_tokens = 0;
  std::string request_id;
};

class RequestOutput {
 public:
  explicit RequestOutput(RequestOutputOptions options);

  // The chunk of one token: its id always, its text as far as it is certain. A stop token has an id
  // and no text.
  v1::GenerateResponse Push(const v1::SampledToken& token, bool is_stop_token);

  // A stop string was completed; the text ends before it.
  bool stopped() const { return text_ && text_->stopped(); }

  // Makes `chunk` the last message: held back text, reason, usage.
  void Finish(v1::FinishReason reason, v1::GenerateResponse& chunk);

 private:
  v1::TokenLogprob Logprob(int32_t id, float value) const;
  v1::TokenLogprobs Logprobs(const v1::SampledToken& token) const;

  RequestOutputOptions options_;
  std::optional<TextStream> text_;
  int completion_tokens_ = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_API_REQUEST_OUTPUT_H_
