#include "coordinator/front/front_door.h"

#include <utility>

#include "absl/time/clock.h"
#include "coordinator/front/live_call.h"
#include "coordinator/front/prepare.h"
#include "coordinator/front/prompt.h"
#include "coordinator/front/score_call.h"
#include "coordinator/front/stream_call.h"
#include "proto/wire/status_builders.h"
#include "proto/base/status_macros.h"

namespace tessera::coordinator {
namespace {

using ModelPtr = std::shared_ptr<const ServedModel>;

absl::Status TooMuchTextError() {
  return wire::OverloadedError("too many long texts and grammars wait to be read",
                               absl::Seconds(1));
}

// How much work a request is to read, in bytes of text. A grammar is never short.
size_t ReadingCost(const v1::SamplingOptions& sampling, size_t bytes) {
  return sampling.has_structured() ? bytes + TextWorker::kShortBytes + 1 : bytes;
}

// Every continuation is read together with the prompt.
size_t ReadingCost(const v1::ScoreRequest& request) {
  return request.ByteSizeLong() +
         request.text().size() * static_cast<size_t>(request.continuations_size());
}

class FrontDoorImpl final : public FrontDoor {
 public:
  explicit FrontDoorImpl(const Options& options)
      : context_(std::make_shared<CallContext>()),
        worker_(options.worker != nullptr ? options.worker : std::make_shared<TextWorker>()) {
    context_->router = options.router;
    context_->metrics = options.metrics;
  }
  ~FrontDoorImpl() override { worker_->Stop(); }  // its work needs the others

  std::shared_ptr<Call> Generate(v1::GenerateRequest request, const Caller& caller,
                                 std::shared_ptr<TokenSink> sink) override {
    return Stream(std::move(request), caller, std::move(sink));
  }

  std::shared_ptr<Call> Chat(v1::ChatRequest request, const Caller& caller,
                             std::shared_ptr<TokenSink> sink) override {
    return Stream(std::move(request), caller, std::move(sink));
  }

  std::shared_ptr<Call> Score(v1::ScoreRequest request, const Caller& caller,
                              Answer<v1::ScoreResponse> answer) override {
    auto call = std::make_shared<ScoreCall>(context_, caller, std::move(answer));
    const size_t cost = ReadingCost(request);
    const std::string request_id = request.request_id();
    Read(call, request_id, cost, [this, call, moved = std::move(request)] {
      TESSERA_ASSIGN_OR_RETURN(const ModelPtr model, FindModel(moved.model()));
      TESSERA_ASSIGN_OR_RETURN(std::vector<PreparedRequest> parts, Prepare(moved, *model));
      for (PreparedRequest& part : parts) part.model = model;
      call->Begin(std::move(parts), moved.top_logprobs());
      return absl::OkStatus();
    });
    return call;
  }

  void Tokenize(v1::TokenizeRequest request, Answer<v1::TokenizeResponse> answer) override {
    AnswerUnary<v1::TokenizeResponse>(std::move(request), std::move(answer), coordinator::Tokenize);
  }

  void Detokenize(v1::DetokenizeRequest request, Answer<v1::DetokenizeResponse> answer) override {
    AnswerUnary<v1::DetokenizeResponse>(std::move(request), std::move(answer),
                                        coordinator::Detokenize);
  }

  void TokenizeChat(v1::ChatRequest request, Answer<v1::TokenizeResponse> answer) override {
    AnswerUnary<v1::TokenizeResponse>(std::move(request), std::move(answer),
                                      coordinator::TokenizeChat);
  }

  absl::Status Abort(const Caller& caller, const std::string& request_id) override {
    const auto call = context_->registry.Find(CallKey(caller.tenant, request_id));
    if (call == nullptr) return absl::NotFoundError("no request of this request_id is under way");
    call->Abort();
    return absl::OkStatus();
  }

  v1::ListModelsResponse ListModels() const override {
    v1::ListModelsResponse response;
    for (const ModelPtr& model : router()->models()) *response.add_models() = InfoOf(*model);
    return response;
  }

  v1::GetClusterStatusResponse ClusterStatus() const override { return router()->Status(); }
  bool serving() const override { return router()->serving(); }

 private:
  Router* router() const { return context_->router; }

  absl::StatusOr<ModelPtr> FindModel(const std::string& name) const {
    const std::vector<ModelPtr> models = router()->models();
    if (models.empty()) {
      return absl::UnavailableError("no worker group is serving; retry once the cluster is ready");
    }
    return ModelOf(name, models);
  }

  template <typename Request>
  std::shared_ptr<Call> Stream(Request request, const Caller& caller,
                               std::shared_ptr<TokenSink> sink) {
    auto call = std::make_shared<StreamCall>(context_, caller, std::move(sink));
    const size_t cost = ReadingCost(request.sampling(), request.ByteSizeLong());
    const std::string request_id = request.request_id();
    Read(call, request_id, cost, [this, call, moved = std::move(request)]() mutable {
      TESSERA_ASSIGN_OR_RETURN(const ModelPtr model, FindModel(moved.model()));
      TESSERA_ASSIGN_OR_RETURN(PreparedRequest prepared, Prepare(std::move(moved), *model));
      prepared.model = model;
      call->Begin(std::move(prepared));
      return absl::OkStatus();
    });
    return call;
  }

  // Runs `begin`, here or in a thread for long texts; what it returns, if not OK, ends the call. A
  // server that is full says so before it has read anything.
  template <typename Begin>
  void Read(const std::shared_ptr<LiveCall>& call, const std::string& request_id, size_t cost,
            Begin begin) {
    absl::Status opened = router()->CheckAdmission();
    if (opened.ok()) opened = call->Register(request_id);
    if (!opened.ok()) return call->Refuse(opened);
    const bool taken = worker_->Run(cost, [call, begin = std::move(begin)]() mutable {
      if (call->cancelled()) return;
      absl::Status begun = absl::DeadlineExceededError("the request's deadline passed");
      if (call->caller().deadline > absl::Now()) begun = begin();
      if (!begun.ok()) call->Refuse(begun);
    });
    if (!taken) call->Refuse(TooMuchTextError());
  }

  template <typename Response, typename Request, typename Work>
  void AnswerUnary(Request request, Answer<Response> answer, Work work) {
    const absl::StatusOr<ModelPtr> model = FindModel(request.model());
    if (!model.ok()) return answer(model.status());
    const size_t cost = request.ByteSizeLong();
    const bool taken = worker_->Run(
        cost, [model = *model, moved = std::move(request), answer, work] {
          Response response;
          const absl::Status done = work(moved, *model, &response);
          if (!done.ok()) return answer(done);
          answer(std::move(response));
        });
    if (!taken) answer(TooMuchTextError());
  }

  const std::shared_ptr<CallContext> context_;
  const std::shared_ptr<TextWorker> worker_;
};

}  // namespace

std::unique_ptr<FrontDoor> FrontDoor::Create(const Options& options) {
  return std::make_unique<FrontDoorImpl>(options);
}

}  // namespace tessera::coordinator
