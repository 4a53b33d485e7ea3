// What the worker told the simulated GPU, in the order in which it did, for tests of what comes
// before what; and a GPU that stands still for a while.
//
//   launch NAME          a kernel; those that are only recorded are not written down
//   graph                a recording is launched
//   copy in, copy out    to the GPU, from the GPU
//   record E             event E (a number) is put behind what was told before
//   wait E               until it has passed
//   query E: passed, query E: not yet
//   synchronize          until the stream has run all
//   free, free at work   memory; while a stream has work, for which it waits
//   drop graph           a recording is destroyed
//
// Threads: any.
#ifndef TESSERA_KERNELS_SIMULATED_JOURNAL_H_
#define TESSERA_KERNELS_SIMULATED_JOURNAL_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace tessera::gpu_stubs {

using Journal = std::vector<std::string>;

// From now on. Nothing is written down before the first call.
void StartJournal();
Journal StopJournal();
// How often the line stands there.
inline int64_t Count(const Journal& journal, const std::string& line) {
  return std::count(journal.begin(), journal.end(), line);
}
void Note(std::string line);

// No stream runs anything until then.
void StandStill(std::chrono::milliseconds how_long);
bool StandsStill();

}  // namespace tessera::gpu_stubs

#endif  // TESSERA_KERNELS_SIMULATED_JOURNAL_H_
