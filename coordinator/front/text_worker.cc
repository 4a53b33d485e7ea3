#include "coordinator/front/text_worker.h"

namespace tessera::coordinator {
namespace {

constexpr int kThreads = 2;  // one long text leaves the way open for the next

thread_local const TextWorker* worker_of_this_thread = nullptr;

}  // namespace

TextWorker::TextWorker() {
  MutexLock lock(&mu_);
  for (int i = 0; i < kThreads; ++i) threads_.emplace_back([this] { Loop(); });
}

bool TextWorker::Run(size_t text_bytes, Work work) {
  if (text_bytes <= kShortBytes || worker_of_this_thread == this) {
    work();
    return true;
  }
  MutexLock lock(&mu_);
  if (stop_ || queue_.size() >= kMostWaiting) return false;
  not_done_.insert(++last_number_);
  queue_.emplace_back(last_number_, std::move(work));
  changed_.Signal();
  return true;
}

void TextWorker::WaitForTaken() {
  MutexLock lock(&mu_);
  const int64_t last = last_number_;
  while (!not_done_.empty() && *not_done_.begin() <= last) done_.Wait(&mu_);
}

void TextWorker::Stop() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(&mu_);
    stop_ = true;
    threads.swap(threads_);
    changed_.SignalAll();
  }
  for (std::thread& thread : threads) thread.join();
}

void TextWorker::Loop() {
  worker_of_this_thread = this;
  Numbered work;
  while (Take(&work)) {
    work.second();
    work.second = nullptr;  // lets go of what it held
    Done(work.first);
  }
}

// Waits for work. False when there will be none any more.
bool TextWorker::Take(Numbered* work) {
  MutexLock lock(&mu_);
  while (!stop_ && queue_.empty()) changed_.Wait(&mu_);
  if (queue_.empty()) return false;
  *work = std::move(queue_.front());
  queue_.pop_front();
  return true;
}

void TextWorker::Done(int64_t number) {
  MutexLock lock(&mu_);
  not_done_.erase(number);
  done_.SignalAll();
}

}  // namespace tessera::coordinator
