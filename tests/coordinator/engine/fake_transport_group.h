// A worker group without workers: keeps the plans that the engine sends and answers them when the
// test says so, with tokens that are a function of the position (and, if asked, of the choice's
// seed) alone. So a token that stands for one of a step under way needs no looking up. The log
// probability of a prompt token is minus its id over 1000, and the token itself the likeliest one
// unless its id is odd.
//
//   FakeTransportGroup group(router.get());
//   ASSERT_TRUE(group.Join().ok());
//   group.Answer();                     // waits for the next plan, then sends its result
#ifndef TESSERA_TESTS_COORDINATOR_ENGINE_FAKE_TRANSPORT_GROUP_H_
#define TESSERA_TESTS_COORDINATOR_ENGINE_FAKE_TRANSPORT_GROUP_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "coordinator/group/group.h"
#include "coordinator/simulate/byte_model.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::testing {

inline constexpr auto kPatience = std::chrono::seconds(60);  // then a test has failed

class FakeTransportGroup {
 public:
  // The token at a position (the prompt's first token stands at 0).
  using Model = std::function<int32_t(int position)>;

  explicit FakeTransportGroup(coordinator::GroupObserver* observer,
                              v1::ModelDescription description = ByteModel(), int world_size = 1)
      : observer_(observer), wire_(std::make_shared<Wire>()) {
    hello_.set_group_id("fake");
    hello_.set_world_size(world_size);
    *hello_.mutable_model() = std::move(description);
  }
  ~FakeTransportGroup() { Stop(); }

  void set_time_sliced_stages() { hello_.set_time_sliced_stages(true); }
  void set_model(Model model) { model_ = std::move(model); }
  // Choices with this seed hold text[p] at position p instead.
  void set_text_of_seed(uint64_t seed, std::string text) { texts_[seed] = std::move(text); }
  // Position p of every sequence holds text[p].
  void set_text(std::string text) {
    model_ = [text = std::move(text)](int position) -> int32_t {
      const size_t at = static_cast<size_t>(position);
      return at < text.size() ? static_cast<unsigned char>(text[at]) : kEos;
    };
  }

  absl::StatusOr<coordinator::JoinedGroup> Hello() {
    auto joined = observer_->OnJoin(hello_, wire_);
    if (joined.ok()) handle_ = joined->handle;
    return joined;
  }
  absl::Status Join() {
    const absl::Status status = Hello().status();
    if (status.ok()) Ready();
    return status;
  }
  void Ready() { observer_->OnReady(handle_); }

  v1::StepPlan TakePlan() { return wire_->Take(); }
  void Answer() { Reply(ResultOf(TakePlan())); }
  void Answer(int steps) {
    for (int i = 0; i < steps; ++i) Answer();
  }
  void Reply(v1::StepResult result) { observer_->OnStepResult(handle_, std::move(result)); }

  // Answers every plan on a thread of its own from now on.
  void Run() {
    thread_ = std::thread([this] {
      while (auto plan = wire_->TakeUnlessStopped()) Reply(ResultOf(*plan));
    });
  }
  void Stop() {
    wire_->Stop();
    if (thread_.joinable()) thread_.join();
  }

  void Lose(absl::Status why) {
    Stop();
    observer_->OnLost(handle_, std::move(why));
  }
  bool shut_down() const { return wire_->shut_down(); }

  v1::StepResult ResultOf(const v1::StepPlan& plan) const {
    v1::StepResult result;
    result.set_step_id(plan.step_id());
    for (const v1::SequenceChunk& chunk : plan.chunks()) {
      if (chunk.prompt_logprob_ids_size() > 0) *result.add_prompt_logprobs() = TargetsOf(chunk);
      if (!chunk.has_sampling()) continue;
      v1::SampledToken* token = result.add_tokens();
      token->set_sequence_id(chunk.sequence_id());
      token->set_token_id(TokenAt(chunk.start_position() + chunk.token_ids_size(),
                                  chunk.sampling().seed()));
      token->set_logprob(-0.5f);
      for (int i = 0; i < chunk.sampling().num_logprobs(); ++i) {
        token->add_top_ids(i == 0 ? token->token_id() : i);
        token->add_top_logprobs(-0.5f - static_cast<float>(i));
      }
    }
    return result;
  }

 private:
  int32_t TokenAt(int position, uint64_t seed) const {
    const auto own = texts_.find(seed);
    if (own == texts_.end()) return model_(position);
    const size_t at = static_cast<size_t>(position);
    return at < own->second.size() ? static_cast<unsigned char>(own->second[at]) : kEos;
  }

  static v1::ChunkPromptLogprobs TargetsOf(const v1::SequenceChunk& chunk) {
    v1::ChunkPromptLogprobs targets;
    targets.set_sequence_id(chunk.sequence_id());
    for (const int32_t id : chunk.prompt_logprob_ids()) {
      if (id < 0) continue;
      v1::PromptLogprob* target = targets.add_prompt_logprobs();
      target->set_token_id(id);
      target->set_logprob(static_cast<float>(id) / -1000);
      target->set_vocab_rank(1 + id % 2);
      for (int i = 0; i < chunk.num_prompt_logprobs(); ++i) {
        target->add_top_ids(i == id % 2 ? id : i);
        target->add_top_logprobs(static_cast<float>(-i));
      }
    }
    return targets;
  }

  // Outlives the group as long as the engine holds it.
  class Wire final : public coordinator::GroupTransport {
   public:
    absl::Status SendPlan(const v1::StepPlan& plan) override {
      std::lock_guard<std::mutex> lock(mu_);
      if (stopped_) return absl::UnavailableError("the group is lost");
      plans_.push_back(plan);
      arrived_.notify_all();
      return absl::OkStatus();
    }
    void Shutdown(const std::string& /*reason*/) override { shut_down_ = true; }
    bool shut_down() const { return shut_down_; }

    std::optional<v1::StepPlan> TakeUnlessStopped() {
      std::unique_lock<std::mutex> lock(mu_);
      arrived_.wait_for(lock, kPatience, [this] { return stopped_ || !plans_.empty(); });
      if (plans_.empty()) return std::nullopt;
      v1::StepPlan plan = plans_.front();
      plans_.pop_front();
      return plan;
    }
    v1::StepPlan Take() {
      std::optional<v1::StepPlan> plan = TakeUnlessStopped();
      if (!plan) std::abort();  // no plan came: the test would hang
      return *plan;
    }
    void Stop() {
      std::lock_guard<std::mutex> lock(mu_);
      stopped_ = true;
      arrived_.notify_all();
    }

   private:
    std::mutex mu_;
    std::condition_variable arrived_;
    std::deque<v1::StepPlan> plans_;
    bool stopped_ = false;
    std::atomic<bool> shut_down_ = false;
  };

  coordinator::GroupObserver* observer_;
  coordinator::GroupHandle handle_{};
  std::shared_ptr<Wire> wire_;
  v1::Hello hello_;
  std::map<uint64_t, std::string> texts_;  // by seed
  Model model_ = [](int position) { return 'a' + position % 26; };
  std::thread thread_;
};

// True once `condition` holds; false when patience is over.
inline bool Eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_COORDINATOR_ENGINE_FAKE_TRANSPORT_GROUP_H_
