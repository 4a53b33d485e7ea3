// The thread that starts gRPC's writes, so that an engine's need not: a write costs ten times what a
// token costs the engine. What arrives for a stream before its turn goes out in one message.
//
//   WriteQueue writes;
//   writes.Add(shared_from_this());    // StartNext is called once for each Add, soon
#ifndef TESSERA_COORDINATOR_GRPC_WRITE_QUEUE_H_
#define TESSERA_COORDINATOR_GRPC_WRITE_QUEUE_H_

#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "proto/base/mutex.h"
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
  bool Take(std::vector<std::shared_ptr<Writer>>* batch);

  Mutex mu_;
  CondVar changed_;
  std::vector<std::shared_ptr<Writer>> queue_ ABSL_GUARDED_BY(mu_);
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_GRPC_WRITE_QUEUE_H_
