#include "coordinator/grpc/write_queue.h"

#include <utility>

namespace tessera::coordinator {

WriteQueue::WriteQueue() : thread_([this] { Loop(); }) {}

WriteQueue::~WriteQueue() {
  {
    MutexLock lock(&mu_);
    stop_ = true;
  }
  changed_.Signal();
  thread_.join();
}

void WriteQueue::Add(std::shared_ptr<Writer> writer) {
  bool was_empty = false;
  {
    MutexLock lock(&mu_);
    was_empty = queue_.empty();
    queue_.push_back(std::move(writer));
  }
  if (was_empty) changed_.Signal();
}

void WriteQueue::Loop() {
  std::vector<std::shared_ptr<Writer>> batch;
  while (Take(&batch)) {
    for (const auto& writer : batch) writer->StartNext();
    batch.clear();
  }
}

// Waits for writers. False when there will be none any more.
bool WriteQueue::Take(std::vector<std::shared_ptr<Writer>>* batch) {
  MutexLock lock(&mu_);
  while (!stop_ && queue_.empty()) changed_.Wait(&mu_);
  batch->swap(queue_);
  return !batch->empty();
}

}  // namespace tessera::coordinator
