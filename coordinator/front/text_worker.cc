#include "coordinator/front/text_worker.h"

#include <utility>

namespace tessera::coordinator {
namespace {

constexpr int kThreads = 2;  // one long text leaves the way open for the next

}  // namespace

TextWorker::TextWorker() {
  for (int i = 0; i < kThreads; ++i) threads_.emplace_back([this] { Loop(); });
}

TextWorker::~TextWorker() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    stop_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool TextWorker::Run(size_t text_bytes, Work work) {
  if (text_bytes <= kShortBytes) {
    work();
    return true;
  }
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (queue_.size() >= kMostWaiting) return false;
    queue_.push_back(std::move(work));
  }
  changed_.notify_one();
  return true;
}

void TextWorker::Loop() {
  std::unique_lock<std::mutex> lock(mu_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Work work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    work();
    work = nullptr;  // lets go of what it held before the lock is taken
    lock.lock();
  }
}

}  // namespace tessera::coordinator
