// The thread that starts gRPC's writes, so that an engine's need not: a write costs ten times what a
// token costs the engine. What arrives for a stream before its turn goes out in one message.
//
//   WriteQueue writes;
//   writes.Add(shared_from_this());    // StartNext is called once for each Add, soon
#ifndef TESSERA_COORDINATOR_GRPC_WRITE_QUEUE_H_
#define TESSERA_COORDINATOR_GRPC_WRITE_QUEUE_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace tessera::coordinator {

class WriteQueue {
 public:
  class Writer {
   public:
    virtual ~Writer() = default;
    virtual void StartNext() = 0;
  };

  WriteQueue();
  ~WriteQueue();  // serves those that were added

  void Add(std::shared_ptr<Writer> writer);

 private:
  void Loop();

  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Writer>> queue_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GRPC_WRITE_QUEUE_H_
