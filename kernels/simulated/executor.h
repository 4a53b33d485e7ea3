// Runs CUDA kernels, written against kernels/cuda/simt.h, on the CPU: every block one after the
// other, every thread of a block on its own stack, warps of 32 in step at their collectives.
//
// It fails, naming kernel, block, thread, view and index, where a GPU would go on silently:
//
//   - an index outside a view, global or shared; a vector access that is not aligned
//   - shared memory read that no thread of the block wrote, or whose asynchronous copy was not
//     waited for
//   - a barrier or warp collective that not all threads of the block or warp reach, or where they
//     stand at different ones
//   - two threads at the same shared memory, one of them writing, with no barrier between; for
//     global memory too where Checks say so, also between blocks
//
// What it does not show: the GPU's weak memory order, its rounding inside a tensor-core product,
// its speed, bank conflicts, registers.
//
// Threads: any thread may launch; the launches of different threads are independent.
//
//   int error = LaunchRmsNorm(...);   // 0, or 719 (cudaErrorLaunchFailure)
//   std::string why = simt::TakeFailure();
#ifndef TESSERA_KERNELS_SIMULATED_EXECUTOR_H_
#define TESSERA_KERNELS_SIMULATED_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <string>

#include "kernels/cuda/ops.h"

namespace tessera::kernels::cuda {
struct LaunchShape;
}

namespace tessera::kernels::cuda::simt {

inline constexpr int kLaunchFailure = 719;  // cudaErrorLaunchFailure

// A launch with everything it needs, to be run now or later, once or often.
struct Launched {
  const char* name = "";
  int64_t grid[3] = {1, 1, 1};
  int threads = 32;
  int64_t shared_bytes = 0;
  std::function<void()> thread_body;  // what one thread does
};

// Runs it to its end: empty, or what the executor found wrong. The blocks behind a failure do not
// run.
std::string Execute(const Launched& launched);

// Who gets launches instead of Execute: a stub of the CUDA runtime records them in a graph, or runs
// them when the stream is waited for. Returns a cudaError_t. Null: they run at once.
using Submitter = int (*)(Stream stream, Launched launched);
void SetSubmitter(Submitter submitter);
int Submit(Stream stream, Launched launched);

// What the last failed launch of this OS thread, that ran at once, did wrong; empty when none. It
// is then forgotten.
std::string TakeFailure();

struct Checks {
  // Races at global memory, within a block and between blocks of a launch. Costs a look-up per
  // access.
  bool global_races = false;
};
void SetChecks(const Checks& checks);

// -- what simt_simulated.h's layer calls, on the stack of a GPU thread --------------------------

struct Here {
  int thread = 0;
  int64_t block[3] = {0, 0, 0};
  int64_t grid_x = 1;
};
const Here& Current();

[[noreturn]] void Fail(std::string what);

// All threads of the block, or all lanes of the warp, stand here before one goes on. `what`: a
// literal. The last lane to come runs `exchange` on all 32 slots, by lane.
void Barrier(const char* file, int line);
void WarpCollective(const char* what, const char* file, int line, void* slot,
                    void (*exchange)(void* const* slots));
void WarpBarrier(const char* file, int line);

// `bytes` of shared memory: the same place for the same key in all threads of a block.
struct SharedPlace {
  std::byte* data = nullptr;
  int64_t offset = 0;  // for the checks below
};
SharedPlace StaticSharedPlace(const void* key, int64_t bytes);
SharedPlace DynamicSharedPlace(int64_t offset, int64_t bytes);

enum class AccessKind { kRead, kWrite, kAtomic };  // kAtomic: shared memory only
void CheckShared(AccessKind kind, int64_t offset, int64_t bytes, const char* view, int64_t index);
// The caller has checked the bounds.
void CheckGlobal(AccessKind kind, const void* address, int64_t bytes, const char* view,
                 int64_t index);
[[noreturn]] void FailBounds(const char* view, int64_t index, int64_t elements, int64_t extent);
[[noreturn]] void FailAlignment(const char* view, int64_t index, int64_t bytes);

// 16 bytes from `from` (null: zeros) to shared memory, which arrive when they are waited for.
void AsyncCopy(const SharedPlace& to, const void* from, const char* view, int64_t index);
void AsyncCommit();
void AsyncWait(int groups);

}  // namespace tessera::kernels::cuda::simt

#endif  // TESSERA_KERNELS_SIMULATED_EXECUTOR_H_
