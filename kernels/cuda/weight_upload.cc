#include "kernels/cuda/weight_upload.h"

#include "kernels/cuda/packed_weights.h"

namespace tessera::kernels::cuda {
namespace {

constexpr char kOperation[] = "WriteWeights";

}  // namespace

bool WeightUpload::Write(const WeightMatrix& w, int64_t row, int64_t count,
                         const std::byte* rows_data) {
  Buffer& buffer = buffers_[next_];
  next_ = (next_ + 1) % kBuffers;
  if (!buffer.copied.Wait(errors_, kOperation)) return false;
  const size_t bytes = PackStagingBytes(w.dtype, count, w.cols);
  if (!buffer.memory.Reserve(errors_, kOperation, bytes)) return false;
  const PackedPieces pieces =
      PackRows(w.dtype, w.rows, w.cols, row, count, rows_data, buffer.memory.data());
  for (int i = 0; i < pieces.count; ++i) {
    const PackedPiece& piece = pieces.piece[i];
    if (!errors_.Check(kOperation, "cudaMemcpyAsync",
                       cudaMemcpyAsync(w.data + piece.offset, buffer.memory.data() + piece.from,
                                       static_cast<size_t>(piece.bytes), cudaMemcpyHostToDevice,
                                       stream_))) {
      return false;
    }
  }
  return buffer.copied.Record(errors_, kOperation, stream_);
}

bool WeightUpload::Release() {
  for (Buffer& buffer : buffers_) {
    if (!buffer.copied.Wait(errors_, kOperation)) return false;
    buffer = Buffer();
  }
  return errors_.ok();
}

}  // namespace tessera::kernels::cuda
