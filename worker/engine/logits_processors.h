// Logits processors: what changes in a row of logits before a token is sampled from it. Penalties,
// bias, and what may not be sampled (cluster.proto says in which order and by which formulas).
//
// Each rank changes its own ids only, and every id's new logit depends on nothing but its old one,
// so the split of the vocabulary does not matter. New logits are computed in double, rounded once,
// and kept finite; -infinity is the logit of what may not be sampled, and of nothing else.
//
//   if (ProcessesLogits(params, state)) {
//     processors.Apply(params, state, first_id, absl::MakeSpan(logits));
//   }
#ifndef TESSERA_WORKER_ENGINE_LOGITS_PROCESSORS_H_
#define TESSERA_WORKER_ENGINE_LOGITS_PROCESSORS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "tessera/v1/cluster.pb.h"

namespace tessera::worker {

// Whether a penalty is on, so that what was sampled before matters.
bool HasPenalties(const v1::SamplingParams& params);

// Whether any logit may change.
bool ProcessesLogits(const v1::SamplingParams& params, const v1::LogitsState& state);

// Whether a mask that is not empty allows the token.
inline bool MaskAllows(const std::string& mask, int32_t id) {
  return (static_cast<uint8_t>(mask[id / 8]) >> (id % 8) & 1) != 0;
}

// Threads: one caller at a time (it keeps scratch as long as the longest row).
class LogitsProcessors {
 public:
  // Changes `logits`: those of tokens first_id, first_id + 1, ...; finite. The parameters
  // are checked (sampling_check.h).
  void Apply(const v1::SamplingParams& params, const v1::LogitsState& state, int32_t first_id,
             absl::Span<float> logits);

 private:
  // What is asked of one id of the row.
  struct Adjustment {
    int32_t index = 0;    // in the row
    int32_t sampled = 0;  // times in output_ids
    bool named = false;   // in prompt_ids or output_ids
    double bias = 0;
  };

  void Collect(const v1::SamplingParams& params, const v1::LogitsState& state);
  // The adjustment of an id, or nullptr when it is not in the row.
  Adjustment* AdjustmentOf(int32_t id);

  int32_t first_id_ = 0;
  int32_t size_ = 0;                       // of the row
  std::vector<int32_t> adjustment_index_;  // per id of the row: 1 + its place in
                                           // adjustments_, 0 = none
  std::vector<Adjustment> adjustments_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_ENGINE_LOGITS_PROCESSORS_H_
