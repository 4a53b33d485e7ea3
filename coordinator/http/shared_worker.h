// A TextWorker that answers under way may still want to use when its owner is going.
//
//   auto shared = std::make_shared<SharedWorker>();
//   if (!shared->Run(bytes, [=] { ... })) → too much waits, or the owner is gone
//   shared->Stop();                       // runs what is queued
#ifndef TESSERA_COORDINATOR_HTTP_SHARED_WORKER_H_
#define TESSERA_COORDINATOR_HTTP_SHARED_WORKER_H_

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>

#include "coordinator/front/text_worker.h"

namespace tessera::coordinator {

class SharedWorker {
 public:
  // Short work (TextWorker::kShortBytes) runs at once on the caller's thread.
  bool Run(size_t bytes, TextWorker::Work work) {
    if (bytes <= TextWorker::kShortBytes) {
      work();
      return true;
    }
    std::lock_guard<std::mutex> lock(mu_);
    return worker_ != nullptr && worker_->Run(bytes, std::move(work));
  }
  // Not from work of its own.
  void Stop() {
    std::unique_ptr<TextWorker> worker;
    {
      std::lock_guard<std::mutex> lock(mu_);
      worker = std::move(worker_);
    }
  }

 private:
  std::mutex mu_;
  std::unique_ptr<TextWorker> worker_ = std::make_unique<TextWorker>();
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_HTTP_SHARED_WORKER_H_
