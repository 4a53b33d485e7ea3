// The messages that a client has not taken yet, in order, and the bound on them: every door holds
// them back here, so that a client that does not read costs a little memory and never holds up an
// engine. Guarded by its owner.
//
//   held.Merge(std::move(chunk));       // or Add: each message stays as it is
//   if (auto reads = held.CheckBound(); !reads.ok()) → the stream ends with it
//   while (!held.empty()) Write(held.Take().chunk);
#ifndef TESSERA_COORDINATOR_FRONT_HELD_CHUNKS_H_
#define TESSERA_COORDINATOR_FRONT_HELD_CHUNKS_H_

#include <cstddef>
#include <deque>

#include "absl/status/status.h"
#include "tessera/v1/inference.pb.h"

namespace tessera::coordinator {

// Appends `more`, which follows `chunk` on the same stream and is about the same choice.
void MergeChunk(v1::GenerateResponse&& more, v1::GenerateResponse& chunk);

class HeldChunks {
 public:
  static constexpr size_t kMostBytes = size_t{4} << 20;
  static constexpr size_t kMergedBytes = size_t{64} << 10;  // which any client can receive

  struct Held {
    v1::GenerateResponse chunk;
    int prompt = 0;  // of a request with several
    size_t bytes = 0;
  };

  // What a message takes in memory, about.
  static size_t BytesOf(const v1::GenerateResponse& chunk);

  void Add(v1::GenerateResponse chunk, int prompt = 0);
  // Appends ids and text to the newest message about the same choice, while that is not over
  // kMergedBytes. The very last message, which tells the usage, stays last.
  void Merge(v1::GenerateResponse chunk);

  Held Take();  // the oldest
  void Clear();
  bool empty() const { return held_.empty(); }
  // RESOURCE_EXHAUSTED once more than kMostBytes are held.
  absl::Status CheckBound() const;

 private:
  Held* MergeTarget(const v1::GenerateResponse& chunk, size_t bytes);

  std::deque<Held> held_;
  size_t bytes_ = 0;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_FRONT_HELD_CHUNKS_H_
