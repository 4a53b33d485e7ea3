// One rank of a job that is going to fail, for mpi_failure_test:  mpi_failure_rank MODE
//
//   receive   every rank waits for a message that never comes
//   compute   every rank is outside of MPI
//   sum       rank 1 is outside of MPI while the others wait to sum with it, for a minute
//   silent    the same, but the others have a deadline
//   messages  the same, without shared memory
//   unequal   rank 1 sums another length
//   leave     rank 1 ends in an orderly way while the others still wait for it
//
// Prints, when the communicator stands, "segment PATH" per file that the process has mapped shared,
// whether its name still exists or not, and then "ready PID"; and "failed: STATUS" for each call
// that fails.

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {
namespace {

void PrintSegments() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    // "7f00-7f01 rw-s 00000000 00:1b 28    /dev/shm/name (deleted)"
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() < 6 || !absl::EndsWith(words[1], "s")) continue;
    std::printf("segment %s\n", words[5].c_str());
  }
}

void Report(const absl::Status& status) {
  std::printf("failed: %s\n", status.ToString().c_str());
  std::fflush(stdout);
}

void Sum(Communicator& world, size_t length) {
  std::vector<float> data(length);
  Report(world.AllReduceSum(absl::MakeSpan(data)));
}

[[noreturn]] void StayOutsideOfMpi() {
  while (true) pause();
}

int Run(const std::string& mode) {
  CommunicatorOptions options;
  options.shared_memory = mode != "messages";
  if (mode == "silent" || mode == "messages" || mode == "leave") {
    options.deadline = absl::Milliseconds(300);
  }
  auto world = MakeMpiCommunicator(options);
  if (!world.ok()) {
    Report(world.status());
    return 1;
  }
  PrintSegments();
  std::printf("ready %d\n", static_cast<int>(getpid()));
  std::fflush(stdout);
  const int world_rank = (*world)->rank();
  const int other = (world_rank + 1) % (*world)->size();

  if (mode == "receive") Report((*world)->Receive(other, 0).status());
  if (mode == "compute") StayOutsideOfMpi();
  if (mode == "sum" && world_rank == 1) StayOutsideOfMpi();
  if (mode == "sum") Sum(**world, 576);
  if (mode == "silent" || mode == "messages") {
    if (world_rank == 1) StayOutsideOfMpi();
    Sum(**world, 576);
    // The group is dead now, and so is every part of it.
    Report((*world)->Barrier());
    Report((*world)->Split(0, 0).status());
    Report((*world)->TryReceive(other, 0).status());
  }
  if (mode == "unequal") {
    Sum(**world, world_rank == 1 ? 100 : 576);
    StayOutsideOfMpi();
  }
  if (mode == "leave" && world_rank != 1) Report((*world)->Receive(1, 0).status());
  return 0;
}

}  // namespace
}  // namespace tessera::worker

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: mpi_failure_rank MODE\n");
    return 2;
  }
  return tessera::worker::Run(argv[1]);
}
