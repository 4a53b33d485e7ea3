#include "worker/model/shard_loader.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <future>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/base/annotate.h"
#include "proto/base/status_macros.h"
#include "proto/model/layers.h"
#include "proto/model/slices.h"
#include "proto/model/tensor_roles.h"
#include "worker/model/shard_slices.h"

namespace tessera::worker {
namespace {

// Bytes read per call, so that progress moves within large tensors too.
constexpr int64_t kReadBytes = 8 << 20;

// Where a layer's tensor goes, by role: rows of data, so that a further tensor is a further row.
struct MatrixRole {
  absl::string_view role;
  kernels::WeightMatrix LayerWeights::*place;
};
constexpr MatrixRole kMatrixRoles[] = {
    {"wq", &LayerWeights::wq},         {"wk", &LayerWeights::wk},
    {"wv", &LayerWeights::wv},         {"wo", &LayerWeights::wo},
    {"w_gate", &LayerWeights::w_gate}, {"w_up", &LayerWeights::w_up},
    {"w_down", &LayerWeights::w_down},
};

struct VectorRole {
  absl::string_view role;
  const float* LayerWeights::*place;
};
constexpr VectorRole kVectorRoles[] = {
    {"attn_norm", &LayerWeights::attn_norm},
    {"attn_post_norm", &LayerWeights::attn_post_norm},
    {"ffn_norm", &LayerWeights::ffn_norm},
    {"ffn_post_norm", &LayerWeights::ffn_post_norm},
    {"bq", &LayerWeights::bq},
    {"bk", &LayerWeights::bk},
    {"bv", &LayerWeights::bv},
    {"q_norm", &LayerWeights::q_norm},
    {"k_norm", &LayerWeights::k_norm},
};

class Loader {
 public:
  Loader(const ModelFile& file, const v1::RankShard& shard, kernels::DeviceMemory& device,
         const LoadProgress& progress)
      : file_(file),
        shard_(shard),
        device_(device),
        progress_(progress),
        bytes_total_(ShardBytes(shard, file.description())) {}

  absl::StatusOr<ModelShard> Run() {
    result_.layers.resize(shard_.layers().end() - shard_.layers().begin());
    for (const v1::TensorDescription& tensor : file_.description().tensors()) {
      const auto slice = SliceOf(shard_, tensor, arch());
      if (!slice) continue;
      auto view = Read(tensor, *slice);
      if (!view.ok()) return Annotate(view.status(), absl::StrCat("loading ", tensor.name()));
      Place(tensor, *view);
    }
    if (arch().tied_embeddings() && shard_.has_output_head()) {
      result_.output = result_.token_embedding;
    }
    TESSERA_RETURN_IF_ERROR(CheckComplete());
    if (progress_) progress_(bytes_loaded_, bytes_total_);
    return std::move(result_);
  }

 private:
  const v1::Architecture& arch() const { return file_.description().architecture(); }

  absl::StatusOr<kernels::WeightMatrix> Read(const v1::TensorDescription& tensor,
                                             const TensorSlice& slice) {
    const bool is_vector = tensor.shape_size() == 1;
    const size_t bytes =
        is_vector ? slice.bytes : device_.WeightBytes(slice.dtype, slice.rows(), slice.cols());
    TESSERA_ASSIGN_OR_RETURN(kernels::DeviceMemory::Buffer buffer, device_.Allocate(bytes));
    const kernels::WeightMatrix w{buffer.get(), slice.dtype, slice.rows(), slice.cols()};
    TESSERA_RETURN_IF_ERROR(Move(tensor.name(), slice, w, is_vector));
    result_.memory.push_back(std::move(buffer));
    return w;
  }

  // Rows of a slice on their way from the file to the device.
  struct Piece {
    int64_t row = 0;
    int64_t count = 0;
    std::vector<std::byte> bytes;
    std::future<absl::Status> read;
  };

  // Piece by piece in order; where the device wants it, other threads read the next ones meanwhile.
  absl::Status Move(const std::string& name, const TensorSlice& slice,
                    const kernels::WeightMatrix& w, bool is_vector) {
    const auto row_bytes = static_cast<int64_t>(kernels::RowBytes(w.dtype, w.cols));
    const int64_t rows_per_read = RowsPerRead(w);
    const size_t readers = device_.WeightReaders();
    std::deque<Piece> under_way;
    int64_t next = 0;
    while (next < w.rows || !under_way.empty()) {
      while (next < w.rows && under_way.size() < readers) {
        Piece& piece = under_way.emplace_back();
        piece.row = next;
        piece.count = std::min(rows_per_read, w.rows - next);
        piece.bytes = TakeBuffer(piece.count * row_bytes);
        next += piece.count;
        piece.read = std::async(readers > 1 ? std::launch::async : std::launch::deferred,
                                [this, &name, &slice, first = slice.row_begin + piece.row,
                                 count = piece.count, out = piece.bytes.data()] {
                                  return file_.ReadSlice(name, first, first + count,
                                                         slice.col_begin, slice.col_end, out);
                                });
      }
      // Taken off only when read: a future waits for its thread when it goes.
      Piece& piece = under_way.front();
      TESSERA_RETURN_IF_ERROR(piece.read.get());
      ScaleLogits(name, piece);
      TESSERA_RETURN_IF_ERROR(Write(w, is_vector, piece));
      bytes_loaded_ += piece.count * row_bytes;
      Report();
      free_buffers_.push_back(std::move(piece.bytes));
      under_way.pop_front();
    }
    return absl::OkStatus();
  }

  std::vector<std::byte> TakeBuffer(int64_t bytes) {
    std::vector<std::byte> buffer;
    if (!free_buffers_.empty()) {
      buffer = std::move(free_buffers_.back());
      free_buffers_.pop_back();
    }
    buffer.resize(std::max(buffer.size(), static_cast<size_t>(bytes)));
    return buffer;
  }

  // As many whole groups of the device's rows as fit into kReadBytes, at least one.
  int64_t RowsPerRead(const kernels::WeightMatrix& w) const {
    const int64_t group = device_.WeightRowGranularity();
    const auto group_bytes =
        group * std::max<int64_t>(1, static_cast<int64_t>(kernels::RowBytes(w.dtype, w.cols)));
    return std::max<int64_t>(1, kReadBytes / group_bytes) * group;
  }

  // The head's products are linear in the norm before it: a scale of the logits is the norm's.
  void ScaleLogits(const std::string& name, Piece& piece) const {
    const float scale = model::Multiplier(arch().logit_scale());
    if (name != "output_norm" || scale == 1) return;
    float value;
    for (size_t at = 0; at + sizeof(value) <= piece.bytes.size(); at += sizeof(value)) {
      std::memcpy(&value, &piece.bytes[at], sizeof(value));
      value *= scale;
      std::memcpy(&piece.bytes[at], &value, sizeof(value));
    }
  }

  absl::Status Write(const kernels::WeightMatrix& w, bool is_vector, const Piece& piece) {
    if (!is_vector) return device_.WriteWeights(w, piece.row, piece.count, piece.bytes.data());
    return device_.WriteBytes(piece.bytes.data(), w.cols * sizeof(float), w.data);
  }

  void Report() {
    if (!progress_ || bytes_loaded_ - bytes_reported_ < kReadBytes) return;
    bytes_reported_ = bytes_loaded_;
    progress_(bytes_loaded_, bytes_total_);
  }

  void Place(const v1::TensorDescription& tensor, const kernels::WeightMatrix& view) {
    const absl::string_view role = model::RoleName(tensor.name());
    if (tensor.layer() < 0) {
      if (role == "token_embedding") result_.token_embedding = view;
      if (role == "output_norm") result_.output_norm = reinterpret_cast<const float*>(view.data);
      if (role == "output") result_.output = view;
      return;
    }
    LayerWeights& layer = result_.layers[tensor.layer() - shard_.layers().begin()];
    for (const MatrixRole& row : kMatrixRoles) {
      if (row.role == role) layer.*row.place = view;
    }
    for (const VectorRole& row : kVectorRoles) {
      if (row.role == role) layer.*row.place = reinterpret_cast<const float*>(view.data);
    }
  }

  absl::Status Missing(absl::string_view name) const {
    return absl::FailedPreconditionError(
        absl::StrCat("the model file has no tensor ", name, " for rank ", shard_.world_rank()));
  }

  // Whether the tensor has come to where the forward pass looks for it.
  bool IsPlaced(const model::ExpectedTensor& tensor) const {
    const absl::string_view role = tensor.role->name;
    if (role == "token_embedding") return result_.token_embedding.data != nullptr;
    if (role == "output_norm") return result_.output_norm != nullptr;
    if (role == "output") return result_.output.data != nullptr;
    const LayerWeights& layer = result_.layers[tensor.layer - shard_.layers().begin()];
    for (const MatrixRole& row : kMatrixRoles) {
      if (row.role == role) return (layer.*row.place).data != nullptr;
    }
    for (const VectorRole& row : kVectorRoles) {
      if (row.role == role) return layer.*row.place != nullptr;
    }
    return false;
  }

  absl::Status CheckComplete() const {
    for (const model::ExpectedTensor& tensor : model::ExpectedTensors(arch())) {
      v1::TensorDescription described;
      described.set_name(tensor.name);
      described.set_layer(tensor.layer);
      if (model::StageHolds(described, arch(), shard_) && !IsPlaced(tensor)) {
        return Missing(tensor.name);
      }
    }
    return absl::OkStatus();
  }

  const ModelFile& file_;
  const v1::RankShard& shard_;
  kernels::DeviceMemory& device_;
  const LoadProgress& progress_;
  const int64_t bytes_total_;
  int64_t bytes_loaded_ = 0;
  int64_t bytes_reported_ = 0;
  std::vector<std::vector<std::byte>> free_buffers_;
  ModelShard result_;
};

}  // namespace

absl::StatusOr<ModelShard> LoadShard(const ModelFile& file, const v1::RankShard& shard,
                                     kernels::DeviceMemory& device, const LoadProgress& progress) {
  return Loader(file, shard, device, progress).Run();
}

}  // namespace tessera::worker
