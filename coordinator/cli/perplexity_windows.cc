#include "coordinator/cli/perplexity_windows.h"

#include <algorithm>

namespace tessera::coordinator {

std::vector<PerplexityWindow> PerplexityWindows(int64_t tokens, const WindowOptions& options) {
  std::vector<PerplexityWindow> windows;
  for (int64_t scored = 1; scored < tokens;) {
    const int64_t length = windows.empty() ? options.context - 1 : options.stride;
    const int64_t end = std::min(tokens, scored + length);
    windows.push_back({std::max<int64_t>(0, end - options.context), scored, end});
    scored = end;
  }
  return windows;
}

}  // namespace tessera::coordinator
