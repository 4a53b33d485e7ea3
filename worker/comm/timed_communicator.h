// A communicator that knows how long its calls waited for the slowest rank and how long they moved
// bytes. It works over any communicator and sends nothing of its own: the fastest call of a kind and
// size so far is one that nobody was late for, so what a call takes beyond that is waiting. A size
// counts as its power of two.
//
// Threads: calls as Communicator; CommTimes may be read from any thread.
//
//   CommTimes times;
//   auto tp = MakeTimedCommunicator(*std::move(split), &times);
//   ... times.waiting_ns ...
#ifndef TESSERA_WORKER_COMM_TIMED_COMMUNICATOR_H_
#define TESSERA_WORKER_COMM_TIMED_COMMUNICATOR_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "worker/comm/communicator.h"

namespace tessera::worker {

// Sums over all calls.
struct CommTimes {
  std::atomic<int64_t> waiting_ns{0};
  std::atomic<int64_t> moving_ns{0};
  std::atomic<int64_t> late_ns{0};  // Communicator::late
};

// `times` must outlive the communicator. A part split from it is timed into the same sums.
std::unique_ptr<Communicator> MakeTimedCommunicator(std::unique_ptr<Communicator> inner,
                                                    CommTimes* times);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_COMM_TIMED_COMMUNICATOR_H_
