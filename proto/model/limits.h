// Every bound of the contract, each once: what a model may be and what a plan may ask. Coordinator
// and worker check by these same numbers, so that neither accepts what the other refuses. All are far
// above any model in use and low enough that no product of them that is computed leaves int64.
//
//   if (hello.world_size() > model::kMaxWorldSize) ...
#ifndef TESSERA_PROTO_MODEL_LIMITS_H_
#define TESSERA_PROTO_MODEL_LIMITS_H_

#include <algorithm>
#include <cstdint>

namespace tessera::model {

// Of an architecture.
inline constexpr int64_t kMaxLayers = 4'096;
// Hidden size, heads * head_dim, columns of a feed-forward: a row of float32 stays within 4 MB.
inline constexpr int64_t kMaxWidth = int64_t{1} << 20;
inline constexpr int64_t kMaxHeads = 65'536;
inline constexpr int64_t kMaxHeadDim = 65'536;
inline constexpr int64_t kMaxVocab = int64_t{1} << 22;  // of the tokenizer, too
inline constexpr int64_t kMaxPositions = 100'000'000;
inline constexpr float kMinRopeTheta = 1;  // both are out
inline constexpr float kMaxRopeTheta = 1e20f;
inline constexpr float kMaxFrequencyFactor = 1e9f;
inline constexpr float kMaxFactor = 1e6f;  // of multipliers and of rope scaling

// Of a group and its plan.
inline constexpr int kMaxWorldSize = 4'096;
inline constexpr int kMaxBlockTokens = 1'024;
inline constexpr int64_t kMaxKvTokens = INT32_MAX;  // of a rank's cache: slots are counted in int32
inline constexpr int kMaxModelLen = 1 << 24;
inline constexpr int kMaxTokensPerStep = 1'000'000;
inline constexpr int kMaxSequencesPerStep = 1'000'000;
inline constexpr int64_t kMaxActivationBytes = int64_t{1} << 30;  // MPI counts a message in int

inline int64_t MaxKvBlocks(int block_tokens) { return kMaxKvTokens / block_tokens; }

// The step's activations, in float32, travel in one message.
inline int MaxTokensPerStep(int hidden_size) {
  const int64_t fitting = kMaxActivationBytes / (int64_t{hidden_size} * int64_t{sizeof(float)});
  return static_cast<int>(std::min<int64_t>(kMaxTokensPerStep, fitting));
}

}  // namespace tessera::model

#endif  // TESSERA_PROTO_MODEL_LIMITS_H_
