// A front door that notes what it is asked and answers as the test says: by a script (tokens at once,
// or a refusal), or by hand through the sinks it keeps.
#ifndef TESSERA_TESTS_COORDINATOR_HTTP_FAKE_FRONT_DOOR_H_
#define TESSERA_TESTS_COORDINATOR_HTTP_FAKE_FRONT_DOOR_H_

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "coordinator/front/access.h"
#include "coordinator/front/front_door.h"
#include "coordinator/engine/metrics.h"

namespace tessera::testing {

namespace v1 = ::tessera::v1;

inline v1::GenerateResponse Chunk(std::string text, int index = 0) {
  v1::GenerateResponse chunk;
  chunk.add_token_ids(7);
  chunk.set_text(std::move(text));
  chunk.set_index(index);
  return chunk;
}

inline v1::GenerateResponse LastChunk(std::string text, int prompt_tokens = 3,
                                      int completion_tokens = 2, int index = 0) {
  v1::GenerateResponse chunk = Chunk(std::move(text), index);
  chunk.set_finish_reason(v1::FINISH_REASON_STOP);
  chunk.mutable_usage()->set_prompt_tokens(prompt_tokens);
  chunk.mutable_usage()->set_completion_tokens(completion_tokens);
  return chunk;
}

class FakeFrontDoor final : public coordinator::FrontDoor {
 public:
  struct Asked {
    v1::GenerateRequest generate;
    v1::ChatRequest chat;
    coordinator::Caller caller;
    std::shared_ptr<coordinator::TokenSink> sink;
    std::shared_ptr<std::atomic<int>> cancels = std::make_shared<std::atomic<int>>(0);
  };

  // Without a script, sinks wait for the test.
  std::vector<std::string> script = {};  // texts of the chunks; the last one ends the answer
  absl::Status refusal;
  std::atomic<bool> is_serving = true;

  std::shared_ptr<Call> Generate(v1::GenerateRequest request, const coordinator::Caller& caller,
                                 std::shared_ptr<coordinator::TokenSink> sink) override {
    Asked asked;
    asked.generate = std::move(request);
    return Note(std::move(asked), caller, std::move(sink));
  }
  std::shared_ptr<Call> Chat(v1::ChatRequest request, const coordinator::Caller& caller,
                             std::shared_ptr<coordinator::TokenSink> sink) override {
    Asked asked;
    asked.chat = std::move(request);
    return Note(std::move(asked), caller, std::move(sink));
  }
  std::shared_ptr<Call> Score(v1::ScoreRequest /*request*/, const coordinator::Caller& /*caller*/,
                              Answer<v1::ScoreResponse> answer) override {
    answer(absl::UnimplementedError("the fake scores nothing"));
    return nullptr;
  }
  // One id per byte.
  void Tokenize(v1::TokenizeRequest request, Answer<v1::TokenizeResponse> answer) override {
    v1::TokenizeResponse response;
    for (const char c : request.text()) {
      response.add_ids(static_cast<unsigned char>(c));
      response.add_tokens(std::string(1, c));
    }
    answer(std::move(response));
  }
  void Detokenize(v1::DetokenizeRequest request, Answer<v1::DetokenizeResponse> answer) override {
    v1::DetokenizeResponse response;
    for (const int32_t id : request.ids()) {
      if (id < 0 || id > 255) return answer(absl::InvalidArgumentError("tokens: no such id"));
      response.mutable_text()->push_back(static_cast<char>(id));
    }
    answer(std::move(response));
  }
  void TokenizeChat(v1::ChatRequest request, Answer<v1::TokenizeResponse> answer) override {
    v1::TokenizeRequest text;
    for (const v1::ChatMessage& message : request.messages()) {
      text.mutable_text()->append(message.content());
    }
    Tokenize(std::move(text), std::move(answer));
  }
  absl::Status Abort(const coordinator::Caller& /*caller*/, const std::string& id) override {
    return absl::NotFoundError(id);
  }
  v1::ListModelsResponse ListModels() const override {
    v1::ListModelsResponse models;
    v1::ModelInfo* model = models.add_models();
    model->set_name("org/tiny");
    model->set_max_model_len(2048);
    return models;
  }
  v1::GetClusterStatusResponse ClusterStatus() const override { return {}; }
  bool serving() const override { return is_serving; }

  // The i-th request, as soon as it is there.
  Asked WaitFor(size_t i) {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [&] { return asked_.size() > i; });
    return asked_[i];
  }
  size_t count() {
    std::lock_guard<std::mutex> lock(mu_);
    return asked_.size();
  }
  void WaitForCancels(int n) {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [&] { return cancelled_ >= n; });
  }

 private:
  struct FakeCall final : Call {
    FakeCall(FakeFrontDoor* the_door, std::shared_ptr<std::atomic<int>> the_cancels)
        : door(the_door), cancels(std::move(the_cancels)) {}
    void Cancel() override {
      if (cancels->fetch_add(1) > 0) return;
      std::lock_guard<std::mutex> lock(door->mu_);
      ++door->cancelled_;
      door->changed_.notify_all();
    }
    FakeFrontDoor* const door;
    const std::shared_ptr<std::atomic<int>> cancels;
  };

  std::shared_ptr<Call> Note(Asked asked, const coordinator::Caller& caller,
                             std::shared_ptr<coordinator::TokenSink> sink) {
    asked.caller = caller;
    if (script.empty() && refusal.ok()) asked.sink = sink;
    auto call = std::make_shared<FakeCall>(this, asked.cancels);
    {
      std::lock_guard<std::mutex> lock(mu_);
      asked_.push_back(std::move(asked));
      changed_.notify_all();
    }
    if (!refusal.ok()) {
      sink->Fail(refusal);
      return call;
    }
    for (size_t i = 0; i < script.size(); ++i) {
      if (i + 1 < script.size()) {
        sink->Push(Chunk(script[i]));
      } else {
        sink->Finish(LastChunk(script[i], 3, static_cast<int>(script.size())));
      }
    }
    return call;
  }

  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<Asked> asked_;
  int cancelled_ = 0;
};

class FakeAccess final : public coordinator::Access {
 public:
  std::string key = {};  // empty: everybody may
  absl::StatusOr<std::string> Admit(absl::string_view authorization,
                                    absl::string_view tenant) const override {
    if (!key.empty() && authorization != absl::StrCat("Bearer ", key)) {
      return absl::UnauthenticatedError("the API key is missing or unknown");
    }
    if (tenant == "other") return absl::PermissionDeniedError("the key is of another tenant");
    return std::string(tenant);
  }
  bool asks_for_keys() const override { return !key.empty(); }
  std::map<std::string, double> weights() const override { return {}; }
};

class FakeMetrics final : public coordinator::Metrics {
 public:
  void SetModel(const std::string& /*name*/) override {}
  void FirstToken(absl::Duration /*since*/) override {}
  void InterToken(absl::Duration /*since*/) override {}
  void RequestEnded(const coordinator::EndedRequest& /*request*/) override {}
  void BeginGroup(int /*group*/) override {}
  void SchedulerState(int /*group*/, const coordinator::SchedulerStats& /*stats*/) override {}
  void RankTimes(int /*group*/, int /*world_rank*/, const v1::StepTimes& /*times*/) override {}
  void GroupLost() override {}
  void RequestsMoved(int /*count*/) override {}
  std::string Serialize() const override { return "tessera_up 1\n"; }
};

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_COORDINATOR_HTTP_FAKE_FRONT_DOOR_H_
