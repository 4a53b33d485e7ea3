#include "kernels/simulated/streams.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "kernels/simulated/call_sites.h"
#include "kernels/simulated/journal.h"
#include "kernels/simulated/executor.h"

namespace tessera::gpu_stubs {
namespace {

namespace simt = ::tessera::kernels::cuda::simt;

std::atomic<cudaError_t> device_error = cudaSuccess;

struct StreamState {
  std::recursive_mutex mu;
  std::deque<Work> line;
  bool capturing = false;
  bool spoiled = false;
  std::vector<Work> recorded;
};
thread_local StreamState* captured_here = nullptr;

// Shared: a rank of the same process may be running them all while one is destroyed.
std::mutex streams_mu;
std::map<cudaStream_t, std::shared_ptr<StreamState>> all_streams;

StreamState* State(cudaStream_t stream) { return reinterpret_cast<StreamState*>(stream); }

struct EventState {
  // All copies share it: whether the latest record has been passed.
  std::shared_ptr<std::atomic<bool>> passed = std::make_shared<std::atomic<bool>>(true);
  StreamState* stream = nullptr;
  const int number = ++made;  // for the journal

  static inline std::atomic<int> made = 0;
};
EventState* State(cudaEvent_t event) { return reinterpret_cast<EventState*>(event); }

struct GraphState {
  std::vector<Work> work;
};

// One piece; cudaErrorNotReady when it is blocked.
cudaError_t RunOne(StreamState& stream) {
  if (StandsStill()) return cudaErrorNotReady;
  const Work work = stream.line.front();
  const cudaError_t result = work();
  if (result == cudaErrorNotReady) return result;
  stream.line.pop_front();
  if (result != cudaSuccess) SetDeviceError(result);
  return result;
}

cudaError_t RunUntil(StreamState& stream, const std::function<bool()>& done) {
  const std::lock_guard<std::recursive_mutex> lock(stream.mu);
  while (!done() && !stream.line.empty()) {
    if (DeviceError() != cudaSuccess) return DeviceError();
    RunOne(stream);
  }
  return DeviceError();
}

bool HasWork(StreamState& state) {
  const std::lock_guard<std::recursive_mutex> lock(state.mu);
  return !state.line.empty();
}

std::vector<std::shared_ptr<StreamState>> AllStreams() {
  const std::lock_guard<std::mutex> lock(streams_mu);
  std::vector<std::shared_ptr<StreamState>> streams;
  streams.reserve(all_streams.size());
  for (const auto& [stream, state] : all_streams) streams.push_back(state);
  return streams;
}

void RunAhead(StreamState& state) {
  const std::lock_guard<std::recursive_mutex> lock(state.mu);
  while (!state.line.empty() && DeviceError() == cudaSuccess) {
    if (RunOne(state) == cudaErrorNotReady) return;
  }
}

// The executor's hook: a kernel becomes a piece of its stream's work.
int SubmitKernel(kernels::cuda::Stream stream, simt::Launched launched) {
  if (KernelMustFail("launch", launched.name)) return cudaErrorLaunchOutOfResources;
  if (DeviceError() != cudaSuccess) return DeviceError();
  if (stream != nullptr && !IsCapturing(stream)) Note(std::string("launch ") + launched.name);
  return Enqueue(stream, [launched = std::move(launched)] {
    if (KernelMustFail("run", launched.name)) return cudaErrorLaunchFailure;
    std::string wrong = simt::Execute(launched);
    // The executor knows what a kernel was told of its arrays, not what was allocated.
    if (const size_t bytes = wrong.empty() ? WrittenBesideAllocation() : 0; bytes > 0) {
      wrong = "wrote beside an allocation of " + std::to_string(bytes) + " bytes";
    }
    if (wrong.empty()) return cudaSuccess;
    ReportExecutorFailure(launched.name, wrong);
    return cudaErrorLaunchFailure;
  });
}

const bool hooked = [] {
  simt::SetSubmitter(&SubmitKernel);
  return true;
}();

}  // namespace

bool RefusedWhileCapturing() {
  if (captured_here == nullptr) return false;
  captured_here->spoiled = true;
  return true;
}

bool IsCapturing(cudaStream_t stream) { return State(stream)->capturing; }

cudaError_t DeviceError() { return device_error; }
void SetDeviceError(cudaError_t error) {
  cudaError_t none = cudaSuccess;
  device_error.compare_exchange_strong(none, error);
}

void ReportExecutorFailure(const char* kernel, const std::string& what) {
  std::fprintf(stderr, "simulated GPU: %s: %s\n", kernel, what.c_str());
}

cudaError_t Enqueue(cudaStream_t stream, Work work) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  StreamState& state = *State(stream);
  const std::lock_guard<std::recursive_mutex> lock(state.mu);
  if (state.capturing) {
    state.recorded.push_back(std::move(work));
  } else {
    state.line.push_back(std::move(work));
  }
  return cudaSuccess;
}

void RunAhead(cudaStream_t stream) { RunAhead(*State(stream)); }

bool IsAtWork() {
  const std::vector<std::shared_ptr<StreamState>> streams = AllStreams();
  return std::any_of(streams.begin(), streams.end(),
                     [](const auto& stream) { return HasWork(*stream); });
}

void RunAllStreams() {
  // A GPU would wait for ever; whoever frees memory below a collective that nobody joins is to be
  // seen, not to be waited for.
  constexpr std::chrono::seconds kPatience(2);
  const auto start = std::chrono::steady_clock::now();
  for (const std::shared_ptr<StreamState>& stream : AllStreams()) {
    RunAhead(*stream);
    while (DeviceError() == cudaSuccess && HasWork(*stream) &&
           std::chrono::steady_clock::now() - start < kPatience) {
      RunAhead(*stream);
    }
  }
}

cudaError_t RunAll(cudaStream_t stream) {
  return RunUntil(*State(stream), [] { return false; });
}

}  // namespace tessera::gpu_stubs

using namespace tessera::gpu_stubs;  // NOLINT: the entry points of the C library follow

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (RefusedWhileCapturing()) return cudaErrorStreamCaptureUnsupported;
  auto state = std::make_shared<StreamState>();
  *stream = reinterpret_cast<cudaStream_t>(state.get());
  const std::lock_guard<std::mutex> lock(streams_mu);
  all_streams.emplace(*stream, std::move(state));
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  RunAhead(stream);
  std::shared_ptr<StreamState> state;
  {
    const std::lock_guard<std::mutex> lock(streams_mu);
    const auto found = all_streams.find(stream);
    if (found == all_streams.end()) return cudaErrorInvalidResourceHandle;
    state = std::move(found->second);
    all_streams.erase(found);
  }
  const std::lock_guard<std::recursive_mutex> lock(state->mu);
  state->line.clear();  // what is blocked never runs
  return DeviceError();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (RefusedWhileCapturing()) return cudaErrorStreamCaptureUnsupported;
  Note("synchronize");
  return RunAll(stream);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (RefusedWhileCapturing()) return cudaErrorStreamCaptureUnsupported;
  StreamState& state = *State(stream);
  const std::lock_guard<std::recursive_mutex> lock(state.mu);
  if (DeviceError() != cudaSuccess) return DeviceError();
  if (state.line.empty()) return cudaSuccess;
  const cudaError_t result = RunOne(state);
  if (result != cudaSuccess) return result;
  return state.line.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  *event = reinterpret_cast<cudaEvent_t>(new EventState);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  delete State(event);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (DeviceError() != cudaSuccess) return DeviceError();
  EventState& state = *State(event);
  Note("record " + std::to_string(state.number));
  state.passed = std::make_shared<std::atomic<bool>>(false);
  state.stream = State(stream);
  return Enqueue(stream, [passed = state.passed] {
    passed->store(true);
    return cudaSuccess;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (RefusedWhileCapturing()) return cudaErrorStreamCaptureUnsupported;
  const EventState& state = *State(event);
  Note("wait " + std::to_string(state.number));
  if (state.passed->load()) return DeviceError();
  return RunUntil(*state.stream, [&] { return state.passed->load(); });
}

// As a query of the stream: it makes it go on.
cudaError_t cudaEventQuery(cudaEvent_t event) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  const EventState& state = *State(event);
  if (!state.passed->load() && DeviceError() == cudaSuccess) {
    const std::lock_guard<std::recursive_mutex> lock(state.stream->mu);
    if (!state.stream->line.empty()) RunOne(*state.stream);
  }
  if (DeviceError() != cudaSuccess) return DeviceError();
  const bool passed = state.passed->load();
  Note("query " + std::to_string(state.number) + (passed ? ": passed" : ": not yet"));
  return passed ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  StreamState& state = *State(stream);
  const std::lock_guard<std::recursive_mutex> lock(state.mu);
  if (state.capturing) return cudaErrorIllegalState;
  state.capturing = true;
  state.spoiled = false;
  captured_here = &state;
  return DeviceError();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  StreamState& state = *State(stream);
  const std::lock_guard<std::recursive_mutex> lock(state.mu);
  const bool capturing = std::exchange(state.capturing, false);
  captured_here = nullptr;
  std::vector<Work> recorded = std::exchange(state.recorded, {});
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (!capturing) return cudaErrorIllegalState;
  if (state.spoiled) return cudaErrorStreamCaptureInvalidated;
  *graph = reinterpret_cast<cudaGraph_t>(new GraphState{std::move(recorded)});
  return DeviceError();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  *executable =
      reinterpret_cast<cudaGraphExec_t>(new GraphState(*reinterpret_cast<GraphState*>(graph)));
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  delete reinterpret_cast<GraphState*>(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  Note("drop graph");
  delete reinterpret_cast<GraphState*>(executable);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  TESSERA_STUB_ENTRY(cudaErrorECCUncorrectable);
  if (DeviceError() != cudaSuccess) return DeviceError();
  Note("graph");
  for (const Work& work : reinterpret_cast<GraphState*>(executable)->work) {
    if (cudaError_t error = Enqueue(stream, work); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // extern "C"
