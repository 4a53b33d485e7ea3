// How a plan names a token that the device still draws, so that it can begin before anybody else
// knows it: the last of a chunk's ids is -1 - i for draw i of the step before, whose id stays in
// last_token_from_step. The device puts the token in its place (kernels/draws.h).
#ifndef TESSERA_WORKER_ENGINE_FED_TOKENS_H_
#define TESSERA_WORKER_ENGINE_FED_TOKENS_H_

#include <cstddef>
#include <cstdint>

namespace tessera::worker {

// The draws that a plan's ids may stand for.
struct OpenDraws {
  int64_t step_id = 0;  // 0: there are none
  size_t count = 0;     // in the order of the step's chunks with sampling
};

inline int32_t FedToken(size_t draw) { return -1 - static_cast<int32_t>(draw); }

// Whether the id stands for one of them.
inline bool IsFed(int32_t id, const OpenDraws& draws) {
  return id < 0 && -1 - int64_t{id} < static_cast<int64_t>(draws.count);
}

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_FED_TOKENS_H_
