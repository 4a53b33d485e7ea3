// Streams of the stubbed CUDA runtime: work is put in line and runs when somebody waits or asks, in
// order, on the thread that does so. So what is read or overwritten too early shows.
//
// A query runs one piece and says "not ready" while there is more, so that whoever polls makes the
// stream go on. A piece may be blocked (a collective whose peers are not there yet).
//
// After a piece has failed, every call that touches a stream returns its error, as in CUDA.
//
// Threads: any; a stream runs its work on one thread at a time.
#ifndef TESSERA_KERNELS_SIMULATED_STREAMS_H_
#define TESSERA_KERNELS_SIMULATED_STREAMS_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace tessera::gpu_stubs {

// cudaErrorNotReady: blocked, call again later.
using Work = std::function<cudaError_t()>;

// Puts `work` in line, or into the recording when the stream is being captured.
cudaError_t Enqueue(cudaStream_t stream, Work work);
bool IsCapturing(cudaStream_t stream);

// Whether this thread captures a stream: calls that wait or allocate are refused then, and spoil the
// recording.
bool RefusedWhileCapturing();

// What made the GPU fail, or success.
cudaError_t DeviceError();
void SetDeviceError(cudaError_t error);
// "kernel 'Add', block 0, thread 3: ...": what the executor said of the last failure; printed too.
void ReportExecutorFailure(const char* kernel, const std::string& what);

// Device memory for other stubs; null when there is none.
void* AllocateOnGpu(size_t bytes);
bool FreeOnGpu(void* data);
bool IsOnGpu(const void* data, size_t bytes);  // within one allocation

// Bytes of an allocation, of the GPU's or pinned, that something was written beside; else 0.
size_t WrittenBesideAllocation();

// Whether a stream has work that has not run.
bool IsAtWork();
// Runs all of the stream's work.
cudaError_t RunAll(cudaStream_t stream);
// Runs the stream's work until a piece is blocked: what a GPU does by itself, for a stream that
// nobody will ask.
void RunAhead(cudaStream_t stream);
// Runs the work of all streams, waiting a while for what is blocked.
void RunAllStreams();

}  // namespace tessera::gpu_stubs

#endif  // TESSERA_KERNELS_SIMULATED_STREAMS_H_
