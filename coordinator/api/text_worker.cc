#include "coordinator/api/text_worker.h"

#include <utility>

namespace tessera::coordinator {

TextWorker::TextWorker() : thread_([this] { Loop(); }) {}

TextWorker::~TextWorker() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    stop_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void TextWorker::Run(size_t text_bytes, std::function<void()> work) {
  if (text_bytes <= kShortBytes) return work();
  {
    std::lock_guard<std::mutex> lock(mu_);
    queue_.push_back(std::move(work));
  }
  changed_.notify_one();
}

void TextWorker::Loop() {
  std::unique_lock<std::mutex> lock(mu_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    work();
    lock.lock();
  }
}

}  // namespace tessera::coordinator
