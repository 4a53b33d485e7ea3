// A TokenSink that remembers; the test waits for what it wants to see.
#ifndef TESSERA_TESTS_COORDINATOR_ENGINE_RECORDING_SINK_H_
#define TESSERA_TESTS_COORDINATOR_ENGINE_RECORDING_SINK_H_

#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "coordinator/engine/request.h"
#include "tests/coordinator/engine/fake_transport_group.h"

namespace tessera::testing {

class RecordingSink final : public coordinator::TokenSink {
 private:
  template <typename Read>
  auto Locked(Read read) const {
    std::lock_guard<std::mutex> lock(mu_);
    return read();
  }

 public:
  void Push(v1::GenerateResponse chunk) override { Record(std::move(chunk), false); }
  void Finish(v1::GenerateResponse last) override { Record(std::move(last), true); }
  void Fail(absl::Status why) override {
    std::lock_guard<std::mutex> lock(mu_);
    ends_ += 1;
    status_ = std::move(why);
    changed_.notify_all();
  }

  // False when patience is over.
  bool WaitForTokens(int count) {
    std::unique_lock<std::mutex> lock(mu_);
    return changed_.wait_for(lock, kPatience,
                             [&] { return static_cast<int>(ids_.size()) >= count; });
  }
  bool WaitForEnd() {
    std::unique_lock<std::mutex> lock(mu_);
    return changed_.wait_for(lock, kPatience, [this] { return ends_ > 0; });
  }

  int ends() const {
    return Locked([this] { return ends_; });
  }
  std::string text() const {
    return Locked([this] { return text_; });
  }
  // Of one choice.
  std::string text_of(int index) const {
    return Locked([&] {
      std::string text;
      for (const auto& chunk : chunks_) {
        if (chunk.index() == index) text += chunk.text();
      }
      return text;
    });
  }
  std::vector<int> ids() const {
    return Locked([this] { return ids_; });
  }
  absl::Status status() const {
    return Locked([this] { return status_; });
  }
  std::vector<v1::GenerateResponse> chunks() const {
    return Locked([this] { return chunks_; });
  }
  v1::GenerateResponse last() const {
    return Locked([this] { return chunks_.back(); });
  }

 private:
  void Record(v1::GenerateResponse chunk, bool end) {
    std::lock_guard<std::mutex> lock(mu_);
    text_ += chunk.text();
    ids_.insert(ids_.end(), chunk.token_ids().begin(), chunk.token_ids().end());
    chunks_.push_back(std::move(chunk));
    if (end) ends_ += 1;
    changed_.notify_all();
  }

  mutable std::mutex mu_;
  std::condition_variable changed_;
  std::vector<v1::GenerateResponse> chunks_;
  std::vector<int> ids_;
  std::string text_;
  absl::Status status_;
  int ends_ = 0;
};

}  // namespace tessera::testing

#endif  // TESSERA_TESTS_COORDINATOR_ENGINE_RECORDING_SINK_H_
