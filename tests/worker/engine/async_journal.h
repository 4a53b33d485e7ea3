// What the tests of async scheduling share: the requests, and how to read the journal of
// a simulated GPU (kernels/simulated/journal.h).
#ifndef TESSERA_TESTS_WORKER_ENGINE_ASYNC_JOURNAL_H_
#define TESSERA_TESTS_WORKER_ENGINE_ASYNC_JOURNAL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/simulated/journal.h"
#include "tests/worker/engine/generation_script.h"

namespace tessera::worker {

using gpu_stubs::Count;
using gpu_stubs::Journal;

// How often memory was freed while the GPU was at work, once the weights were loaded.
int64_t FreedAtWork(const Journal& journal);

// One step's part of the journal: from its first line to the record behind its samples.
struct StepLines {
  size_t begin = 0;
  size_t recorded = 0;  // "record E"
  size_t passed = 0;    // the first "query E: passed" behind that
};
std::vector<StepLines> SamplingSteps(const Journal& journal);

// Lines [begin, end).
std::string Quoted(const Journal& journal, size_t begin, size_t end);

// Prompts of different lengths; greedy, sampled, with log probabilities. The first `others` ask for
// what the host has to decide, and are done sooner.
std::vector<GenerationRequest> AsyncRequests(int32_t vocab, size_t others);

// Tokens, and all that was said of each.
void ExpectSameAnswers(const std::vector<GenerationResult>& a,
                       const std::vector<GenerationResult>& b, const std::string& what);

}  // namespace tessera::worker

#endif  // TESSERA_TESTS_WORKER_ENGINE_ASYNC_JOURNAL_H_
