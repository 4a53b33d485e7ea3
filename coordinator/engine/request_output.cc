#include "coordinator/engine/request_output.h"

#include <algorithm>
#include <utility>

namespace tessera::coordinator {

RequestOutput::RequestOutput(RequestOutputOptions options)
    : options_(std::move(options)),
      choices_(static_cast<size_t>(options_.choices)),
      live_choices_(options_.choices) {
  opening_.set_request_id(std::move(options_.request_id));
  // Nothing stands before the prompt's first token.
  if (options_.prompt_logprobs >= 0 && !options_.is_score) opening_.add_prompt_logprobs();
  if (options_.tokenizer == nullptr) return;
  for (Choice& choice : choices_) {
    choice.text.emplace(options_.tokenizer, options_.stop, /*skip_special=*/true,
                        options_.text_before);
  }
  options_.stop.clear();
}

OutputChunk RequestOutput::Take(const Emission& emission) {
  OutputChunk chunk;
  TakeTargets(emission.prompt_logprobs);
  cached_tokens_ = std::max(cached_tokens_, emission.cached_tokens);
  Choice& choice = choices_[static_cast<size_t>(emission.choice)];
  const bool finished = emission.finished != FinishCause::kNone;
  if (choice.ended || (!emission.token && !finished)) return chunk;
  if (!std::exchange(opened_, true)) chunk.message = std::move(opening_);
  chunk.is_empty = false;
  chunk.message.set_index(emission.choice);
  const bool is_stop_token = emission.finished == FinishCause::kStopToken;
  if (emission.token) AddToken(*emission.token, is_stop_token, choice, chunk.message);
  const bool stopped = is_stop_token || (choice.text && choice.text->stopped());
  chunk.choice_stopped = stopped && !finished;
  if (stopped || finished) EndChoice(stopped ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH, choice, chunk);
  return chunk;
}

void RequestOutput::TakeTargets(const std::vector<v1::PromptLogprob>& targets) {
  for (const v1::PromptLogprob& target : targets) {
    *opening_.add_prompt_logprobs() = Logprobs(target, options_.prompt_logprobs);
  }
}

void RequestOutput::AddToken(const v1::SampledToken& token, bool is_stop_token, Choice& choice,
                             v1::GenerateResponse& message) {
  ++completion_tokens_;
  ++choice.tokens;
  message.add_token_ids(token.token_id());
  if (choice.text && !is_stop_token) {
    const bool may_stop = choice.tokens > options_.min_tokens;
    message.set_text(choice.text->Push(token.token_id(), may_stop));
  }
  if (options_.num_logprobs >= 0) {
    *message.add_logprobs() = Logprobs(token, options_.num_logprobs);
  }
}

void RequestOutput::EndChoice(v1::FinishReason reason, Choice& choice, OutputChunk& chunk) {
  choice.ended = true;
  if (choice.text && !choice.text->stopped()) {
    chunk.message.mutable_text()->append(choice.text->Flush());
  }
  chunk.message.set_finish_reason(reason);
  if (--live_choices_ > 0) return;
  chunk.is_last = true;
  v1::Usage* usage = chunk.message.mutable_usage();
  usage->set_prompt_tokens(options_.prompt_tokens);
  usage->set_completion_tokens(completion_tokens_);
  usage->set_cached_tokens(cached_tokens_);
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

template <typename Token>
v1::TokenLogprobs RequestOutput::Logprobs(const Token& token, int most) const {
  v1::TokenLogprobs logprobs;
  *logprobs.mutable_chosen() = Logprob(token.token_id(), token.logprob());
  const int top = std::min({token.top_ids_size(), token.top_logprobs_size(), most});
  for (int i = 0; i < top; ++i) {
    *logprobs.add_top() = Logprob(token.top_ids(i), token.top_logprobs(i));
  }
  return logprobs;
}

}  // namespace tessera::coordinator
