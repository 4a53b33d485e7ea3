// What a device is asked of rows of logits and what it says of them; and draws that stay on the
// device, so that the next step can be put behind this one before the host knows its tokens.
#ifndef TESSERA_KERNELS_DRAWS_H_
#define TESSERA_KERNELS_DRAWS_H_

#include <cstddef>
#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace tessera::kernels {

// What shall be said of one row of logits, and what is. The draw is that of the largest
// logit / temperature + Gumbel noise, keyed by seed, position and token (worker/engine/gumbel.h).
struct RowQuestion {
  uint64_t seed = 0;
  int64_t position = 0;    // of the token to be drawn
  float temperature = 0;   // 0: no draw but the greedy one, no scaled mass
  int num_candidates = 0;  // of the best, at most Device::MaxRowCandidates()
};
struct RowCandidate {
  float logit = 0;
  int32_t id = -1;  // -1: there are no more
};
struct RowAnswer {
  bool finite = false;    // without it nothing else has a meaning
  double score = 0;       // of the draw
  int32_t id = 0;         // of the draw; the greedy one at temperature 0
  float logit = 0;        // of the draw
  int32_t greedy_id = 0;  // the largest logit, ties by lowest id
  float greedy_logit = 0;
  double raw_mass = 0;     // ln sum exp(logit)
  double scaled_mass = 0;  // ln sum exp(logit / temperature)
};

// Devices that draw together, each from its own part of every row.
struct DrawGroup {
  int size = 1;
  // Draws::GroupBytes of device memory, at the same place of what `gather` works on in each member.
  std::byte* memory = nullptr;
  // Puts on the device's stream what brings `bytes` at `mine` of every member, one member after the
  // other, to `all`. Both lie in `memory`. Every member calls it with the same bytes.
  std::function<absl::Status(const std::byte* mine, size_t bytes, std::byte* all)> gather;
};

// Batches of draws, collected in the order in which they were begun; at most two are under way. All
// of it is put on the device's stream; none of it waits.
//
// In the ids of the step that is begun next, -1 - i stands for the token drawn for question i of
// the batch begun last: the best of what the members of the group drew. The device puts it there.
//
// Threads and failures: as the device, which owns it.
//
//   TESSERA_RETURN_IF_ERROR(draws->Reserve(most_rows, {}));
//   TESSERA_RETURN_IF_ERROR(draws->Begin(questions));
//   draws->Draw(logits, vocab, first_id, 0, rows);   // until every question has its row
//   TESSERA_RETURN_IF_ERROR(draws->End());
//   ... until *draws->Arrived(): TESSERA_RETURN_IF_ERROR(draws->Collect(answers, candidates));
class Draws {
 public:
  virtual ~Draws() = default;

  // Device memory for a group of `size` that draws up to `rows` at once.
  virtual size_t GroupBytes(int size, int64_t rows) const = 0;
  // Makes room for batches of up to `rows`, before the first one. Of a group of more than one the
  // members begin the same batches in the same order, none of them larger.
  virtual absl::Status Reserve(int64_t rows, DrawGroup group) = 0;

  virtual absl::Status Begin(absl::Span<const RowQuestion> questions) = 0;
  // Answers questions [first, first + count) from logits (count, vocab) in device memory, those of
  // tokens first_id ....
  virtual void Draw(const float* logits, int64_t vocab, int32_t first_id, int64_t first,
                    int64_t count) = 0;
  virtual absl::Status End() = 0;

  // Whether the answers of the oldest batch under way have reached the host; at least one is.
  virtual absl::StatusOr<bool> Arrived() = 0;
  // Takes them; they have arrived. Shapes as those of Device::LookAtRows, one member of the group
  // after the other.
  virtual absl::Status Collect(RowAnswer* answers, RowCandidate* candidates) = 0;
};

}  // namespace tessera::kernels

#endif  // TESSERA_KERNELS_DRAWS_H_
