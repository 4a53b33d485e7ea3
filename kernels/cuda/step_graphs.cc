#include "kernels/cuda/step_graphs.h"

#include <algorithm>

namespace tessera::kernels::cuda {
namespace {

constexpr char kOperation[] = "Replayable";

}  // namespace

absl::Status StepGraphs::Run(int key, int64_t rows, absl::FunctionRef<absl::Status()> work) {
  Entry& entry = entries_[{key, rows}];
  if (!entry.has_run) {
    entry.has_run = true;
    return work();
  }
  if (entry.graph == nullptr) {
    if (absl::Status recorded = Record(work, entry.graph); !recorded.ok()) return recorded;
  } else {
    ++replays_;
  }
  errors_.Check(kOperation, "cudaGraphLaunch", cudaGraphLaunch(entry.graph, stream_));
  return errors_.first();
}

absl::Status StepGraphs::Record(absl::FunctionRef<absl::Status()> work, cudaGraphExec_t& graph) {
  if (!errors_.Check(kOperation, "cudaStreamBeginCapture",
                     cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal))) {
    return errors_.first();
  }
  recording_ = true;
  absl::Status worked = work();
  recording_ = false;
  cudaGraph_t recorded = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream_, &recorded);
  // What broke the recording says more than that it broke.
  if (!worked.ok()) return worked;
  if (!errors_.ok()) return errors_.first();
  if (!errors_.Check(kOperation, "cudaStreamEndCapture", ended)) return errors_.first();
  errors_.Check(kOperation, "cudaGraphInstantiate", cudaGraphInstantiate(&graph, recorded, 0));
  errors_.Check(kOperation, "cudaGraphDestroy", cudaGraphDestroy(recorded));
  return errors_.first();
}

bool StepGraphs::Knows(int64_t rows) const {
  return std::any_of(entries_.begin(), entries_.end(), [rows](const auto& entry) {
    return entry.first.second == rows && entry.second.has_run;
  });
}

void StepGraphs::Retire() {
  for (const auto& [key, entry] : entries_) {
    if (entry.graph != nullptr) retired_.push_back(entry.graph);
  }
  entries_.clear();
}

bool StepGraphs::FreeRetired(const char* operation) {
  for (cudaGraphExec_t graph : std::exchange(retired_, {})) {
    errors_.Check(operation, "cudaGraphExecDestroy", cudaGraphExecDestroy(graph));
  }
  return errors_.ok();
}

void StepGraphs::Clear() {
  Retire();
  for (cudaGraphExec_t graph : std::exchange(retired_, {})) {
    CheckAtEnd("cudaGraphExecDestroy", cudaGraphExecDestroy(graph));
  }
}

}  // namespace tessera::kernels::cuda
