// Where long texts are turned into tokens: gRPC has few threads, and every stream needs them.
//
// Short work runs at once on the caller's thread, long work on one thread of its own, in order. The
// destructor runs what is still queued.
//
//   worker.Run(request->text().size(), [=] { ...; reactor->Finish(status); });
#ifndef TESSERA_COORDINATOR_API_TEXT_WORKER_H_
#define TESSERA_COORDINATOR_API_TEXT_WORKER_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace tessera::coordinator {

class TextWorker {
 public:
  // A few milliseconds' worth of encoding.
  static constexpr size_t kShortBytes = size_t{16} << 10;

  TextWorker();
  ~TextWorker();

  void Run(size_t text_bytes, std::function<void()> work);

 private:
  void Loop();

  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_API_TEXT_WORKER_H_
