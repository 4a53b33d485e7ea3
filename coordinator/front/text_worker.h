// Where long texts are turned into tokens, grammars compiled and large bodies read and written: the
// doors have few threads, and every stream needs them. All doors of a server share one.
//
// Short work runs at once on the caller's thread, as does what work itself runs; long work runs on a
// few threads of its own, begun in order of arrival. Shared, since answers under way may still want it when its owner is going: Stop
// ends it, and whatever comes later is turned away. Any thread.
//
//   auto worker = std::make_shared<TextWorker>();
//   if (!worker->Run(request.text().size(), [=] { ...; reactor->Finish(status); })) → too much waits
//   worker->Stop();
#ifndef TESSERA_COORDINATOR_FRONT_TEXT_WORKER_H_
#define TESSERA_COORDINATOR_FRONT_TEXT_WORKER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "proto/base/mutex.h"

namespace tessera::coordinator {

class TextWorker {
 public:
  using Work = absl::AnyInvocable<void()>;

  // A few milliseconds' worth of encoding.
  static constexpr size_t kShortBytes = size_t{16} << 10;
  static constexpr size_t kMostWaiting = 1024;

  TextWorker();
  ~TextWorker() { Stop(); }

  // False, and the work is not done, when it is long and too much waits already, or after Stop.
  bool Run(size_t text_bytes, Work work);

  // Blocks until all work that has been taken so far is done. Not from work.
  void WaitForTaken();
  // Does what is queued and ends the threads. Not from work.
  void Stop();

 private:
  using Numbered = std::pair<int64_t, Work>;

  void Loop();
  bool Take(Numbered* work);
  void Done(int64_t number);

  Mutex mu_;
  CondVar changed_;  // a thread waits here for work
  CondVar done_;
  std::deque<Numbered> queue_ ABSL_GUARDED_BY(mu_);
  std::set<int64_t> not_done_ ABSL_GUARDED_BY(mu_);  // numbers of work queued and under way
  int64_t last_number_ ABSL_GUARDED_BY(mu_) = 0;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_FRONT_TEXT_WORKER_H_
