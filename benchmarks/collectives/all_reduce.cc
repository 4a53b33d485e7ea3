// AllReduceSum against MPI_Allreduce, by size. Run it under mpirun:
//
//   mpirun -n 2 --bind-to none tessera_bench_collectives
//
// and with more ranks than cores: --oversubscribe --mca mpi_yield_when_idle 1.
//
// Both are measured in one run, in turn, round by round; the figures are medians over the rounds
// of a batch's mean time per call on rank 0. "bus" is the bytes that every rank must at least
// send, 2·(n-1)/n of the vector, over the time. MPI_Allreduce does not promise the order of the
// sum; AllReduceSum does, and pays for it in whole vectors exchanged where messages are short.

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {
namespace {

constexpr int kRounds = 15;
constexpr size_t kBatchBytes = 4 << 20;  // about as much per batch, for short vectors
constexpr size_t kMaxCallsPerBatch = 300;

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Mean microseconds per call.
template <typename Function>
double TimeBatch(size_t calls, Function function) {
  MPI_Barrier(MPI_COMM_WORLD);
  const auto start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < calls; ++i) function();
  const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
  return spent.count() / static_cast<double>(calls);
}

absl::Status MeasureSize(Communicator& world, size_t bytes) {
  std::vector<float> data(bytes / sizeof(float), 0.0f);
  const size_t calls = std::clamp<size_t>(kBatchBytes / bytes, 1, kMaxCallsPerBatch);
  absl::Status status;
  auto ours = [&] {
    if (status.ok()) status = world.AllReduceSum(absl::MakeSpan(data));
  };
  auto mpis = [&] {
    MPI_Allreduce(MPI_IN_PLACE, data.data(), static_cast<int>(data.size()), MPI_FLOAT, MPI_SUM,
                  MPI_COMM_WORLD);
  };
  TimeBatch(calls, ours);  // connections, scratch
  TimeBatch(calls, mpis);
  std::vector<double> our_times, mpi_times;
  for (int round = 0; round < kRounds && status.ok(); ++round) {
    our_times.push_back(TimeBatch(calls, ours));
    mpi_times.push_back(TimeBatch(calls, mpis));
  }
  if (!status.ok() || world.rank() != 0) return status;

  const double our_us = Median(our_times);
  const double mpi_us = Median(mpi_times);
  const double bus_bytes =
      2.0 * (world.size() - 1) / world.size() * static_cast<double>(bytes);
  std::printf("%10zu %12.2f %12.2f %8.2f %10.2f %10.2f\n", bytes, our_us, mpi_us, mpi_us / our_us,
              bus_bytes / our_us / 1e3, bus_bytes / mpi_us / 1e3);
  std::fflush(stdout);
  return status;
}

absl::Status Run() {
  auto world = MakeMpiCommunicator({});
  if (!world.ok()) return world.status();
  if ((*world)->rank() == 0) {
    std::printf("%d ranks\n%10s %12s %12s %8s %10s %10s\n", (*world)->size(), "bytes", "ours us",
                "MPI us", "MPI/ours", "ours GB/s", "MPI GB/s");
  }
  for (size_t bytes : {256, 1024, 2304, 4608, 9216, 18432, 36864, 65536, 131072, 262144, 1 << 20,
                       4 << 20, 16 << 20}) {
    const absl::Status status = MeasureSize(**world, bytes);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace tessera::worker

int main() {
  const absl::Status status = tessera::worker::Run();
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}
