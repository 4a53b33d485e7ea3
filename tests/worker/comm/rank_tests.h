// Runs a GoogleTest program on every rank of an mpirun: the first rank prints as usual, the others
// only what went wrong, and where. All ranks run the same tests in the same order.
//
//   Communicator* world = nullptr;  // the tests'; GoogleTest has no other way in
//   ...
//   testing::InitGoogleTest(&argc, argv);
//   return RunTestsOnRanks({.deadline = absl::Seconds(60)}, &world);
#ifndef TESSERA_TESTS_WORKER_COMM_RANK_TESTS_H_
#define TESSERA_TESTS_WORKER_COMM_RANK_TESTS_H_

#include <gtest/gtest.h>

#include <cstdio>

#include "worker/comm/communicator.h"

namespace tessera::worker {

class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int world_rank) : world_rank_(world_rank) {}

  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "world rank %d: %s:%d: %s\n", world_rank_, result.file_name(),
                 result.line_number(), result.message());
  }

 private:
  const int world_rank_;
};

// What main returns. `world`: set to this process's communicator while the tests run, once `prepare`
// has seen it.
inline int RunTestsOnRanks(const CommunicatorOptions& options, Communicator** world,
                           void (*prepare)(Communicator&) = nullptr) {
  auto made = MakeMpiCommunicator(options);
  if (!made.ok()) {
    std::fprintf(stderr, "%s\n", made.status().ToString().c_str());
    return 1;
  }
  *world = made->get();
  if (prepare != nullptr) prepare(**world);
  if ((*world)->rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter((*world)->rank()));
  }
  return RUN_ALL_TESTS();
}

}  // namespace tessera::worker

#endif  // TESSERA_TESTS_WORKER_COMM_RANK_TESTS_H_
