// A long text in windows that a model can take in: which tokens each scores, and behind which.
// Pure.
//
//   PerplexityWindows(10, {.context = 6, .stride = 3});
//   // {0, 1, 6}, {3, 6, 9}, {4, 9, 10}: begin, first scored, end
#ifndef TESSERA_COORDINATOR_CLI_PERPLEXITY_WINDOWS_H_
#define TESSERA_COORDINATOR_CLI_PERPLEXITY_WINDOWS_H_

#include <cstdint>
#include <vector>

namespace tessera::coordinator {

struct PerplexityWindow {
  int64_t begin = 0;         // tokens [begin, scored) are what the model has read
  int64_t first_scored = 0;  // tokens [first_scored, end) are scored; greater than begin
  int64_t end = 0;
};

struct WindowOptions {
  int64_t context = 0;  // tokens of one window at most; at least 2
  int64_t stride = 0;   // tokens scored by every window but the first; 1 .. context - 1
};

// Every token but the first is scored once. Each after the first window is scored behind as many as
// the context allows.
std::vector<PerplexityWindow> PerplexityWindows(int64_t tokens, const WindowOptions& options);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_PERPLEXITY_WINDOWS_H_
