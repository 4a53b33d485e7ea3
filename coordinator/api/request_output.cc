#include "coordinator/api/request_output.h"

#include <algorithm>
#include <utility>

namespace tessera::coordinator {

RequestOutput::RequestOutput(RequestOutputOptions options) : options_(std::move(options)) {
  if (options_.tokenizer != nullptr) {
    text_.emplace(options_.tokenizer, options_.stop, /*skip_special=*/true, options_.text_before);
  }
}

v1::GenerateResponse RequestOutput::Push(const v1::SampledToken& token, bool is_stop_token) {
  v1::GenerateResponse chunk;
  if (completion_tokens_ == 0) chunk.set_request_id(options_.request_id);
  ++completion_tokens_;
  chunk.add_token_ids(token.token_id());
  if (text_ && !is_stop_token) chunk.set_text(text_->Push(token.token_id()));
  if (options_.num_logprobs >= 0) *chunk.add_logprobs() = Logprobs(token);
  return chunk;
}

void RequestOutput::Finish(v1::FinishReason reason, v1::GenerateResponse& chunk) {
  if (text_ && !text_->stopped()) chunk.mutable_text()->append(text_->Flush());
  if (completion_tokens_ == 0) chunk.set_request_id(options_.request_id);
  chunk.set_finish_reason(reason);
  chunk.mutable_usage()->set_prompt_tokens(options_.prompt_tokens);
  chunk.mutable_usage()->set_completion_tokens(completion_tokens_);
}

v1::TokenLogprob RequestOutput::Logprob(int32_t id, float value) const {
  v1::TokenLogprob entry;
  entry.set_token_id(id);
  if (options_.tokenizer != nullptr) {
    entry.set_token(SanitizeUtf8(options_.tokenizer->TokenBytes(id)));
  }
  entry.set_logprob(value);
  return entry;
}

v1::TokenLogprobs RequestOutput::Logprobs(const v1::SampledToken& token) const {
  v1::TokenLogprobs logprobs;
  *logprobs.mutable_chosen() = Logprob(token.token_id(), token.logprob());
  const int top =
      std::min({token.top_ids_size(), token.top_logprobs_size(), options_.num_logprobs});
  for (int i = 0; i < top; ++i) {
    *logprobs.add_top() = Logprob(token.top_ids(i), token.top_logprobs(i));
  }
  return logprobs;
}

}  // namespace tessera::coordinator
