// One device: a GPU, or the cores of this process. What it can do stands in four interfaces, of
// which a client takes the one it needs:
//
//   DeviceMemory   memory, weights, transfers          device_memory.h
//   DeviceOps      steps, the operations of a decoder  device_ops.h
//   RowSampler     sampling from rows of logits        row_sampler.h
//   Recorder       recorded steps                      recorder.h
//
// Threads: one caller at a time, over all four. Order: operations run in the order they were
// called; their results may be read by the host only after Sync() (the cpu device is always in
// sync). An operation that fails on an asynchronous device makes the following Sync fail, and every
// one after it.
//
// Determinism: every output element is computed in an order fixed by the model and the operation
// alone. It does not depend on n, on the other tokens of the step, on how a prompt was cut into
// chunks, on the number of threads, or on how positions are spread over KV blocks. On the cpu
// device the same holds between runs of one instruction set; different sets may differ in the last
// bits.
//
//   TESSERA_ASSIGN_OR_RETURN(auto device, MakeDevice("cpu", {.threads = 2}));
//   TESSERA_ASSIGN_OR_RETURN(const int64_t n, device->BeginStep(step));
//   device->Embed(table, first_row, 1.0f, n, hidden);
#ifndef TESSERA_KERNELS_DEVICE_H_
#define TESSERA_KERNELS_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/device_memory.h"
#include "kernels/device_ops.h"
#include "kernels/recorder.h"
#include "kernels/row_sampler.h"
#include "kernels/tensor.h"

namespace tessera::kernels {

class Device : public DeviceMemory, public DeviceOps, public RowSampler, public Recorder {
 public:
  // "cpu avx512", "cpu avx2", "cpu scalar", "cuda 0: NVIDIA H100", ...
  virtual std::string Name() const = 0;
};

struct DeviceOptions {
  int gpu = 0;  // cuda: which of the machine's
  // cuda: a row's bits do not depend on how many rows there are: what goes through cuBLASLt does so
  // by one algorithm for each matrix, always with the same number of rows. Else large products take
  // what it advises, whose sums may be cut differently for steps of different sizes.
  bool deterministic = false;
  int threads = 1;  // cpu: compute threads, the caller's included
  // cpu: "auto" = the best this machine has; or "scalar", "avx2", "avx512", ... (for tests).
  std::string instruction_set = "auto";
  // What keys and values are kept as: kF32, or kBF16 at half the bytes. cuda: always kBF16.
  DType kv_type = DType::kF32;
};

// kind: "cpu", "cuda", or "auto": cuda where build and machine have it, else cpu. NOT_FOUND for a
// kind that build or machine does not have; UNIMPLEMENTED for an instruction set this machine does
// not have.
absl::StatusOr<std::unique_ptr<Device>> MakeDevice(absl::string_view kind,
                                                   const DeviceOptions& options);

// How many GPUs build and machine have between them, at least 1. NOT_FOUND saying why there is
// none.
absl::StatusOr<int> NumGpus();

struct MemoryInfo {
  int64_t free = 0;  // bytes that nobody has allocated
  int64_t total = 0;
};
// The memory of one of the GPUs.
absl::StatusOr<MemoryInfo> MemoryOf(int gpu);

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_DEVICE_H_
