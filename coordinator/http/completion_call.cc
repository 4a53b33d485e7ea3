#include "coordinator/http/completion_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/http/error_responses.h"
#include "coordinator/openai/errors.h"

namespace tessera::coordinator {
namespace {

constexpr size_t kFillBytes = size_t{64} << 10;
constexpr int kFillChunks = 64;  // taken under one lock

}  // namespace

// The engine's sink of one prompt.
class CompletionCall::Sink final : public TokenSink {
 public:
  Sink(std::shared_ptr<CompletionCall> call, int prompt) : call_(std::move(call)), prompt_(prompt) {}
  void Push(v1::GenerateResponse chunk) override { call_->Accept(prompt_, std::move(chunk), false); }
  void Finish(v1::GenerateResponse last) override { call_->Accept(prompt_, std::move(last), true); }
  void Fail(absl::Status why) override { call_->Fail(why); }

 private:
  const std::shared_ptr<CompletionCall> call_;
  const int prompt_;
};

CompletionCall::CompletionCall(const AnswerStyle& style, Context context,
                               std::shared_ptr<HttpResponder> responder)
    : context_(std::move(context)),
      stream_(style.stream),
      id_(style.id),
      responder_(std::move(responder)),
      answer_(style),
      live_prompts_(style.prompts) {}

void CompletionCall::Start(OpenAiRequest request, Context context,
                           std::shared_ptr<HttpResponder> responder) {
  AnswerStyle style = request.style;
  if (style.model.empty()) {
    const v1::ListModelsResponse models = context.front->ListModels();
    style.model = models.models().empty() ? "default" : models.models(0).name();
  }
  const std::shared_ptr<CompletionCall> call(
      new CompletionCall(style, std::move(context), std::move(responder)));
  call->responder_->OnGone([call] { call->Leave(); });
  if (request.chat) {
    call->Track(call->context_.front->Chat(*std::move(request.chat), call->context_.caller,
                                           std::make_shared<Sink>(call, 0)));
    return;
  }
  for (int i = 0; i < style.prompts && !call->over(); ++i) {
    v1::GenerateRequest& one = request.prompts[static_cast<size_t>(i)];
    if (!style.echo) {
      call->StartPrompt(i, std::move(one));
    } else if (one.has_text()) {
      call->answer_.SetPromptText(i, one.text());
      call->StartPrompt(i, std::move(one));
    } else {
      v1::DetokenizeRequest ids;
      ids.set_model(one.model());
      *ids.mutable_ids() = one.token_ids().ids();
      call->context_.front->Detokenize(
          std::move(ids), [call, i, one](absl::StatusOr<v1::DetokenizeResponse> text) {
            if (!text.ok()) return call->Fail(text.status());
            {
              MutexLock lock(&call->mu_);
              call->answer_.SetPromptText(i, text->text());
            }
            call->StartPrompt(i, one);
          });
    }
  }
}

void CompletionCall::StartPrompt(int prompt, v1::GenerateRequest request) {
  if (over()) return;
  Track(context_.front->Generate(std::move(request), context_.caller,
                                 std::make_shared<Sink>(shared_from_this(), prompt)));
}

bool CompletionCall::over() {
  MutexLock lock(&mu_);
  return over_;
}

void CompletionCall::Track(std::shared_ptr<FrontDoor::Call> call) {
  if (call == nullptr) return;
  {
    MutexLock lock(&mu_);
    if (!over_) {
      calls_.push_back(std::move(call));
      return;
    }
  }
  call->Cancel();  // the client left meanwhile, or another prompt failed
}

bool CompletionCall::EndPrompt(Calls* done) {
  if (--live_prompts_ > 0) return false;
  over_ = true;
  done->swap(calls_);
  return true;
}

void CompletionCall::Hold(int prompt, v1::GenerateResponse chunk, bool last) {
  bool first = false;
  bool wake = false;
  absl::Status reads;
  Calls done;  // goes once the lock is free
  {
    MutexLock lock(&mu_);
    if (over_) return;
    wake = held_.empty();
    held_.Add(std::move(chunk), prompt);
    reads = held_.CheckBound();
    first = !std::exchange(head_sent_, true);
    if (last) EndPrompt(&done);
  }
  if (first) {
    responder_->Stream({.headers = {{"Content-Type", "text/event-stream; charset=utf-8"},
                                    {"Cache-Control", "no-cache"},
                                    {"X-Accel-Buffering", "no"},
                                    {"X-Request-Id", id_}}},
                       shared_from_this());
  } else if (wake) {
    responder_->Wake();
  }
  if (!reads.ok()) Fail(reads);
}

void CompletionCall::Collect(int prompt, v1::GenerateResponse chunk, bool last) {
  bool whole = false;
  size_t bytes = 0;
  Calls done;
  {
    MutexLock lock(&mu_);
    if (over_) return;
    bytes = whole_bytes_ += HeldChunks::BytesOf(chunk);
    answer_.Add(prompt, std::move(chunk));
    whole = last && EndPrompt(&done);
  }
  if (whole) SendWhole(bytes);
  if (bytes > kWholeBytes) {
    Fail(absl::ResourceExhaustedError(
        absl::StrCat("the answer is over ", kWholeBytes, " bytes; stream it")));
  }
}

void CompletionCall::SendWhole(size_t bytes) {
  const auto send = [call = shared_from_this()] {
    HttpResponse response = HttpResponse::Json(200, call->answer_.Whole());
    response.headers.push_back({"X-Request-Id", call->id_});
    call->responder_->Send(std::move(response));
  };
  if (!context_.worker->Run(bytes, send)) {
    responder_->Send(HttpErrorResponse(503, "too many large answers at once; try again"));
  }
}

void CompletionCall::Fail(const absl::Status& why) {
  Calls cancelled;
  bool head_sent = false;
  {
    MutexLock lock(&mu_);
    if (!failed_.ok() || (over_ && held_.empty())) return;
    over_ = true;
    failed_ = why;
    head_sent = head_sent_;
    cancelled.swap(calls_);
  }
  for (const auto& call : cancelled) call->Cancel();
  if (head_sent) return responder_->Wake();
  HttpResponse response = ErrorResponse(why);
  response.headers.push_back({"X-Request-Id", id_});
  responder_->Send(std::move(response));
}

// The client is gone.
void CompletionCall::Leave() {
  Calls cancelled;
  {
    MutexLock lock(&mu_);
    over_ = true;
    held_.Clear();
    cancelled.swap(calls_);
  }
  for (const auto& call : cancelled) call->Cancel();
}

bool CompletionCall::Fill(std::string& out) {
  while (out.size() < kFillBytes) {
    std::vector<HeldChunks::Held> taken;
    absl::Status failed;
    bool over = false;
    {
      MutexLock lock(&mu_);
      for (int i = 0; i < kFillChunks && !held_.empty(); ++i) taken.push_back(held_.Take());
      failed = failed_;
      over = over_;
    }
    for (HeldChunks::Held& one : taken) answer_.Stream(one.prompt, std::move(one.chunk), out);
    if (!taken.empty()) continue;
    if (!failed.ok()) {
      absl::StrAppend(&out, "data: ", ErrorObject(failed), "\n\ndata: [DONE]\n\n");
    } else if (over) {
      answer_.EndStream(out);
    }
    return over;
  }
  return false;
}

}  // namespace tessera::coordinator
