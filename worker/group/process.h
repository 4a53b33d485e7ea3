// This process and the system: memory, parent, signals, and ways to end.
//
// Every way out that follows a failure is _exit: destructors of MPI and gRPC may wait for peers that
// are gone.
#ifndef TESSERA_WORKER_GROUP_PROCESS_H_
#define TESSERA_WORKER_GROUP_PROCESS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tessera::worker {

// The number behind `key` in a file of "key number [unit]" lines, as the kernel writes them; 0 where
// there is none.
int64_t NumberBehind(const std::string& path, const std::string& key);

struct MemoryUse {
  int64_t resident_bytes = 0;  // VmRSS
  int64_t peak_bytes = 0;      // VmHWM
};
MemoryUse ReadMemoryUse();

// Makes the peak start over from what is resident now. Without effect where the system refuses.
void ResetPeakMemory();

std::string HostName();

// The kernel kills this process when its parent (mpirun, or its daemon on this host) dies. Ends the
// process at once if that has happened before the call: `parent` is getppid() at the start of main.
void DieWithParent(int parent);

// SIGTERM and SIGINT are blocked for this thread and those it starts; HandleEndSignals' thread takes
// them. Call before any thread exists.
void BlockEndSignals();
// Starts a thread that calls `on_signal` with the number of each such signal.
void HandleEndSignals(std::function<void(int number)> on_signal);

// One line to stderr in one write, so that lines of several ranks do not mix.
void PrintLine(absl::string_view line);

[[noreturn]] void ExitNow(int code);

// Ends the process with status 1 after `delay` unless it has ended by itself: for orderly ends that
// depend on others.
void ExitUnlessDoneWithin(absl::Duration delay);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_GROUP_PROCESS_H_
