// All-reduce (sum), all-gather and send/receive by size: through the shared-memory window, over messages,
// and MPI's own functions beside them. Run it under mpirun:
//
//   mpirun -n 2 --bind-to none tessera_bench_collectives
//   mpirun -n 2 --bind-to none tessera_bench_collectives --bytes 2304,8192,32768
//
// and with more ranks than cores: --oversubscribe --mca mpi_yield_when_idle 1.
//
// All ways are measured in one run, in turn, round by round; the figures are medians over the rounds
// of a batch's mean time per call on rank 0. Size, algbw and busbw are nccl-tests' (its
// doc/PERFORMANCE.md): algbw = size / time; busbw = algbw × 2(n-1)/n for all-reduce, × (n-1)/n for
// all-gather (size: of the result), × 1 for send/receive (a ring: to the next, from the one before).
// MPI_Allreduce does not promise the order of the sum; ours does.

#include <mpi.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "proto/base/status_macros.h"
#include "worker/comm/communicator.h"
#include "worker/comm/mpi_communicator.h"

namespace tessera::worker {
namespace {

constexpr int kRounds = 15;
constexpr size_t kBatchBytes = 4 << 20;  // about as much per batch, for short vectors
constexpr size_t kMaxCallsPerBatch = 300;
constexpr int kTag = 1;

struct Ways {
  Communicator& shared;    // messages alone where the ranks share no node
  Communicator& messages;
};

// One operation at one size, three ways. Empty: there is no such way.
struct Case {
  std::string operation;
  size_t bytes = 0;       // nccl-tests' size
  double bus_factor = 1;  // busbw / algbw
  std::function<absl::Status()> shared, messages;
  std::function<int()> mpi;
};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Microseconds per call of each way.
class Stopwatch {
 public:
  Stopwatch(const char* name, std::function<absl::Status()> call)
      : name_(name), call_(std::move(call)) {}

  const char* name() const { return name_; }
  bool there() const { return call_ != nullptr; }
  double microseconds() const { return Median(times_); }

  absl::Status Measure(size_t calls, bool counts) {
    if (!there()) return absl::OkStatus();
    MPI_Barrier(MPI_COMM_WORLD);
    const auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < calls; ++i) TESSERA_RETURN_IF_ERROR(call_());
    const std::chrono::duration<double, std::micro> spent =
        std::chrono::steady_clock::now() - start;
    if (counts) times_.push_back(spent.count() / static_cast<double>(calls));
    return absl::OkStatus();
  }

 private:
  const char* const name_;
  const std::function<absl::Status()> call_;
  std::vector<double> times_;
};

std::function<absl::Status()> Checked(std::function<int()> mpi) {
  return [mpi = std::move(mpi)] {
    return mpi() == MPI_SUCCESS ? absl::OkStatus() : absl::InternalError("an MPI function failed");
  };
}

absl::Status Measure(const Case& c, bool prints) {
  Stopwatch ways[] = {{"shared", c.shared}, {"messages", c.messages}, {"MPI", Checked(c.mpi)}};
  const size_t calls = std::clamp<size_t>(kBatchBytes / c.bytes, 1, kMaxCallsPerBatch);
  for (int round = 0; round <= kRounds; ++round) {
    // The first round makes connections and scratch.
    for (Stopwatch& way : ways) TESSERA_RETURN_IF_ERROR(way.Measure(calls, round > 0));
  }
  if (!prints) return absl::OkStatus();
  const double mpi = ways[2].microseconds();
  for (const Stopwatch& way : ways) {
    if (!way.there()) continue;
    const double us = way.microseconds();
    const double algbw = static_cast<double>(c.bytes) / us / 1e3;
    std::printf("%-12s %10zu  %-9s %11.2f %12.3f %12.3f %10.2f\n", c.operation.c_str(), c.bytes,
                way.name(), us, algbw, algbw * c.bus_factor, mpi / us);
  }
  std::fflush(stdout);
  return absl::OkStatus();
}

template <typename T>
absl::Status AllReduces(const Ways& ways, size_t bytes) {
  std::vector<T> data(bytes / sizeof(T));
  const double n = ways.shared.size();
  auto sum = [&](Communicator& world) {
    return [&] { return world.AllReduceSum(absl::MakeSpan(data)); };
  };
  const MPI_Datatype type = sizeof(T) == sizeof(float) ? MPI_FLOAT : MPI_DOUBLE;
  return Measure({.operation = sizeof(T) == sizeof(float) ? "sum float" : "sum double",
                  .bytes = bytes,
                  .bus_factor = 2 * (n - 1) / n,
                  .shared = sum(ways.shared),
                  .messages = sum(ways.messages),
                  .mpi =
                      [&] {
                        return MPI_Allreduce(MPI_IN_PLACE, data.data(),
                                             static_cast<int>(data.size()), type, MPI_SUM,
                                             MPI_COMM_WORLD);
                      }},
                 ways.shared.rank() == 0);
}

absl::Status AllGathers(const Ways& ways, size_t bytes) {
  const int n = ways.shared.size();
  Bytes mine(std::max<size_t>(bytes / n, 1));
  Bytes all(mine.size() * n);
  auto gather = [&](Communicator& world) {
    return [&] { return world.AllGather(mine, absl::MakeSpan(all)); };
  };
  return Measure({.operation = "all-gather",
                  .bytes = all.size(),
                  .bus_factor = (n - 1.0) / n,
                  .shared = gather(ways.shared),
                  .messages = gather(ways.messages),
                  .mpi =
                      [&] {
                        const int count = static_cast<int>(mine.size());
                        return MPI_Allgather(mine.data(), count, MPI_BYTE, all.data(), count,
                                             MPI_BYTE, MPI_COMM_WORLD);
                      }},
                 ways.shared.rank() == 0);
}

// Messages have one way of ours; between ranks of a node MPI's transport shares memory by itself.
absl::Status SendReceives(const Ways& ways, size_t bytes) {
  Communicator& world = ways.messages;
  const int n = world.size();
  const int next = (world.rank() + 1) % n, previous = (world.rank() + n - 1) % n;
  Bytes out(bytes), in(bytes);
  auto pass = [&]() -> absl::Status {
    TESSERA_RETURN_IF_ERROR(world.Send(next, kTag, std::move(out)));
    TESSERA_ASSIGN_OR_RETURN(out, world.Receive(previous, kTag));
    return absl::OkStatus();
  };
  Bytes mpi_out(bytes);
  return Measure({.operation = "send/receive",
                  .bytes = bytes,
                  .shared = nullptr,
                  .messages = pass,
                  .mpi =
                      [&] {
                        const int count = static_cast<int>(bytes);
                        return MPI_Sendrecv(mpi_out.data(), count, MPI_BYTE, next, kTag, in.data(),
                                            count, MPI_BYTE, previous, kTag, MPI_COMM_WORLD,
                                            MPI_STATUS_IGNORE);
                      }},
                 world.rank() == 0);
}

absl::Status Run(const std::vector<size_t>& sizes) {
  TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> shared, MakeMpiCommunicator({}));
  TESSERA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> messages, WithoutSharedMemory(*shared));
  if (shared->rank() == 0) {
    std::printf("%d ranks\n%-12s %10s  %-9s %11s %12s %12s %10s\n", shared->size(), "operation",
                "bytes", "way", "us", "algbw GB/s", "busbw GB/s", "MPI / way");
  }
  const Ways ways{*shared, *messages};
  // Partial sums of the cpu device are doubles.
  for (auto* measure : {AllReduces<double>, AllReduces<float>, AllGathers, SendReceives}) {
    for (size_t bytes : sizes) TESSERA_RETURN_IF_ERROR(measure(ways, bytes));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace tessera::worker

int main(int argc, char** argv) {
  std::vector<size_t> sizes = {256,    1024,   2304,    4608,    8192,    9216,    32768,
                               65536,  131072, 262144,  1 << 20, 4 << 20, 16 << 20};
  CLI::App app("Collectives by size: shared memory, messages, MPI's own; run under mpirun");
  app.add_option("--bytes", sizes, "sizes, multiples of 8")->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = tessera::worker::Run(sizes);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}
