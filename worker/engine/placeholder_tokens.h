// Placeholder tokens: how a plan names a token that the device still samples, so that it can begin
// before anybody else knows it. The last of a chunk's ids is -1 - i for token i of the step before,
// whose id stays in last_token_from_step; the device puts the token there
// (kernels/sampling_queue.h).
//
//   chunk.set_token_ids(0, PlaceholderToken(2));
//   const bool known = IsPlaceholder(chunk.token_ids(0), {.step_id = 7, .count = 3});
#ifndef TESSERA_WORKER_ENGINE_PLACEHOLDER_TOKENS_H_
#define TESSERA_WORKER_ENGINE_PLACEHOLDER_TOKENS_H_

#include <cstddef>
#include <cstdint>

namespace tessera::worker {

// The tokens that placeholders may stand for: those of a step that is still being computed.
struct PendingTokens {
  int64_t step_id = 0;  // 0: there are none
  size_t count = 0;     // in the order of the step's chunks with sampling
};

inline int32_t PlaceholderToken(size_t i) { return -1 - static_cast<int32_t>(i); }

// Whether the id stands for one of them.
inline bool IsPlaceholder(int32_t id, const PendingTokens& pending) {
  return id < 0 && -1 - int64_t{id} < static_cast<int64_t>(pending.count);
}

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_PLACEHOLDER_TOKENS_H_
