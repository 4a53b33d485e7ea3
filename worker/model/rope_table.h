// Cosines and sines of rotary position embedding, for the positions of a step and every pair.
//
// Computed in double after transformers' modeling_rope_utils.py (linear, llama3, yarn) and GGUF's
// per-pair frequency factors, then rounded once to float32. A whole context's table would be larger
// than everything else a rank keeps beside its shard (64 MiB for 128 k positions of 64 pairs), and
// computing the rows of a step takes far less time than the step. Pure; owns nothing but its
// result.
//
//   TESSERA_ASSIGN_OR_RETURN(RopeAngles angles, ComputeRopeAngles(rope, 64, 8192));
//   FillRopeTable(angles, positions, cos, sin);
#ifndef TESSERA_WORKER_MODEL_ROPE_TABLE_H_
#define TESSERA_WORKER_MODEL_ROPE_TABLE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tessera/v1/model.pb.h"

namespace tessera::worker {

struct RopeAngles {
  std::vector<double> per_position;  // radians that pair i turns per position; rotary_dim / 2 of them
  double magnitude = 1.0;            // multiplies cos and sin (YaRN's attention factor)
};

// INVALID_ARGUMENT naming the field when the scaling's numbers make no angles. rotary_dim: elements
// of a head that rotate (model::RotaryDim). max_positions: the architecture's.
absl::StatusOr<RopeAngles> ComputeRopeAngles(const v1::RopeConfig& rope, int rotary_dim,
                                             int max_positions);

// Row i is that of positions[i]. cos, sin: (positions.size(), rotary_dim / 2).
void FillRopeTable(const RopeAngles& angles, absl::Span<const int32_t> positions, float* cos,
                   float* sin);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_MODEL_ROPE_TABLE_H_
