// Where long texts are turned into tokens and grammars compiled: the doors have few threads, and
// every stream needs them.
//
// Short work runs at once on the caller's thread, long work on a few threads of its own, in order of
// arrival. The destructor runs what is still queued.
//
//   if (!worker.Run(request.text().size(), [=] { ...; reactor->Finish(status); })) → too much waits
#ifndef TESSERA_COORDINATOR_FRONT_TEXT_WORKER_H_
#define TESSERA_COORDINATOR_FRONT_TEXT_WORKER_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"

namespace tessera::coordinator {

class TextWorker {
 public:
  using Work = absl::AnyInvocable<void()>;

  // A few milliseconds' worth of encoding.
  static constexpr size_t kShortBytes = size_t{16} << 10;
  static constexpr size_t kMostWaiting = 1024;

  TextWorker();
  ~TextWorker();

  // False, and the work is not done, when too much long work waits already.
  bool Run(size_t text_bytes, Work work);

 private:
  void Loop();

  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<Work> queue_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_FRONT_TEXT_WORKER_H_
