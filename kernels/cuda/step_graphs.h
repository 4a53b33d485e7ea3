// Recorded work of a stream, replayed by one launch: a CUDA graph per (key, rows).
//
// The first time the work simply runs (whatever it allocates is there afterwards), the second time it
// is recorded, from then on replayed. Whoever moves memory that recordings point to calls Retire():
// they are forgotten, and freed once the stream, which may still run one, has nothing to do.
//
//   StepGraphs graphs(errors, stream);
//   return graphs.Run(key, rows, work);
#ifndef TESSERA_KERNELS_CUDA_STEP_GRAPHS_H_
#define TESSERA_KERNELS_CUDA_STEP_GRAPHS_H_

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "kernels/cuda/cuda_errors.h"

namespace tessera::kernels::cuda {

class StepGraphs {
 public:
  StepGraphs(CudaErrors& errors, cudaStream_t stream) : errors_(errors), stream_(stream) {}
  ~StepGraphs() { Clear(); }

  absl::Status Run(int key, int64_t rows, absl::FunctionRef<absl::Status()> work);
  // Forgets all recordings.
  void Retire();
  // Frees those forgotten: the stream has nothing to do. A failure ends the device.
  bool FreeRetired(const char* operation);
  // Forgets and frees all; at the end of a life.
  void Clear();
  // Whether work of that many rows has run since, so that it allocates nothing more.
  bool Knows(int64_t rows) const;
  int64_t replays() const { return replays_; }
  bool recording() const { return recording_; }

 private:
  struct Entry {
    bool has_run = false;
    cudaGraphExec_t graph = nullptr;
  };

  absl::Status Record(absl::FunctionRef<absl::Status()> work, cudaGraphExec_t& graph);

  CudaErrors& errors_;
  const cudaStream_t stream_;
  std::map<std::pair<int, int64_t>, Entry> entries_;
  std::vector<cudaGraphExec_t> retired_;
  int64_t replays_ = 0;
  bool recording_ = false;
};

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_STEP_GRAPHS_H_
