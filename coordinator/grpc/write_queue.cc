#include "coordinator/grpc/write_queue.h"

#include <utility>

namespace tessera::coordinator {

WriteQueue::WriteQueue() : thread_([this] { Loop(); }) {}

WriteQueue::~WriteQueue() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    stop_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void WriteQueue::Add(std::shared_ptr<Writer> writer) {
  bool was_empty = false;
  {
    std::lock_guard<std::mutex> lock(mu_);
    was_empty = queue_.empty();
    queue_.push_back(std::move(writer));
  }
  if (was_empty) changed_.notify_one();
}

void WriteQueue::Loop() {
  std::vector<std::shared_ptr<Writer>> batch;
  std::unique_lock<std::mutex> lock(mu_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    batch.swap(queue_);
    lock.unlock();
    for (const auto& writer : batch) writer->StartNext();
    batch.clear();
    lock.lock();
  }
}

}  // namespace tessera::coordinator
