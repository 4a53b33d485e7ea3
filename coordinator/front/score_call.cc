#include "coordinator/front/score_call.h"

#include <utility>

#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

// Of a continuation's tokens, each with at least its most likely alternative.
v1::ScoreResponse::Score ScoreOf(v1::GenerateResponse&& message, int top_logprobs) {
  v1::ScoreResponse::Score score;
  double sum = 0;
  bool is_greedy = true;
  for (v1::TokenLogprobs& token : *message.mutable_prompt_logprobs()) {
    sum += static_cast<double>(token.chosen().logprob());
    is_greedy = is_greedy && token.top_size() > 0 &&
                token.top(0).token_id() == token.chosen().token_id();
    while (token.top_size() > top_logprobs) token.mutable_top()->RemoveLast();
  }
  score.set_log_likelihood(sum);
  score.set_is_greedy(is_greedy);
  score.mutable_tokens()->Swap(message.mutable_prompt_logprobs());
  return score;
}

}  // namespace

class ScoreCall::Part final : public TokenSink {
 public:
  Part(std::shared_ptr<ScoreCall> call, size_t index) : call_(std::move(call)), index_(index) {}

  void Push(v1::GenerateResponse /*chunk*/) override {}  // a score has one message, the last
  void Finish(v1::GenerateResponse last) override { call_->PartDone(index_, std::move(last)); }
  void Fail(absl::Status why) override { call_->End(why, /*refused=*/false); }

 private:
  const std::shared_ptr<ScoreCall> call_;
  const size_t index_;
};

ScoreCall::ScoreCall(std::shared_ptr<CallContext> context, const Caller& caller,
                     FrontDoor::Answer<v1::ScoreResponse> answer)
    : LiveCall(std::move(context), caller), answer_(std::move(answer)) {}

void ScoreCall::Begin(std::vector<PreparedRequest> parts, int top_logprobs) {
  {
    MutexLock lock(&mu_);
    top_logprobs_ = top_logprobs;
    missing_ = parts.size();
    for (size_t i = 0; i < parts.size(); ++i) response_.add_scores();
    response_.set_request_id(request_id());
  }
  const absl::Status submitted = Submit(std::move(parts));
  if (!submitted.ok()) Refuse(submitted);
}

// The lock is held throughout: results that come before this returns wait for it.
absl::Status ScoreCall::Submit(std::vector<PreparedRequest> parts) {
  auto self = std::static_pointer_cast<ScoreCall>(shared_from_this());
  MutexLock lock(&mu_);
  if (answer_ == nullptr) return absl::OkStatus();
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].tenant = caller().tenant;
    parts[i].deadline = caller().deadline;
    parts[i].request_id = request_id();
    parts[i].arrival = arrival();
    TESSERA_ASSIGN_OR_RETURN(
        const int64_t id, router()->Submit(std::move(parts[i]), std::make_shared<Part>(self, i)));
    ids_.push_back(id);
  }
  return absl::OkStatus();
}

void ScoreCall::PartDone(size_t part, v1::GenerateResponse message) {
  v1::ScoreResponse response;
  {
    MutexLock lock(&mu_);
    if (answer_ == nullptr) return;
    v1::Usage* usage = response_.mutable_usage();
    usage->set_prompt_tokens(usage->prompt_tokens() + message.usage().prompt_tokens());
    usage->set_cached_tokens(usage->cached_tokens() + message.usage().cached_tokens());
    *response_.mutable_scores(static_cast<int>(part)) = ScoreOf(std::move(message), top_logprobs_);
    if (--missing_ > 0) return;
    response = std::move(response_);
  }
  if (const auto answer = TakeAnswer()) answer(std::move(response));
}

FrontDoor::Answer<v1::ScoreResponse> ScoreCall::TakeAnswer() {
  FrontDoor::Answer<v1::ScoreResponse> taken;
  {
    MutexLock lock(&mu_);
    taken = std::exchange(answer_, nullptr);
  }
  if (taken != nullptr) Ended();
  return taken;
}

void ScoreCall::End(const absl::Status& why, bool refused) {
  const auto answer = TakeAnswer();
  if (answer == nullptr) return;
  std::vector<int64_t> ids;
  {
    MutexLock lock(&mu_);
    ids = ids_;
  }
  for (const int64_t id : ids) router()->Cancel(id);
  if (refused) CountRefusal(why);
  answer(why);
}

void ScoreCall::Cancel() {
  std::vector<int64_t> ids;
  if (TakeAnswer() == nullptr) return;
  {
    MutexLock lock(&mu_);
    ids = ids_;
  }
  for (const int64_t id : ids) router()->Cancel(id);
}

void ScoreCall::Abort() { End(absl::CancelledError("the request was aborted"), true); }
void ScoreCall::Refuse(const absl::Status& why) { End(why, true); }

bool ScoreCall::cancelled() {
  MutexLock lock(&mu_);
  return answer_ == nullptr;
}

}  // namespace tessera::coordinator
