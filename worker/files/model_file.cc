#include "worker/files/model_file.h"

#include "absl/strings/str_cat.h"
#include "proto/model/layers.h"
#include "worker/files/file_errors.h"
#include "worker/files/stored_tensor.h"

namespace tessera::worker {

absl::StatusOr<LoadFormat> ParseLoadFormat(absl::string_view name) {
  if (name == "auto") return LoadFormat::kAuto;
  if (name == "gguf") return LoadFormat::kGguf;
  if (name == "safetensors") return LoadFormat::kSafetensors;
  if (name == "dummy") return LoadFormat::kDummy;
  return absl::InvalidArgumentError(absl::StrCat(
      "load format: expected auto, gguf, safetensors or dummy, found \"", Printable(name), "\""));
}

kernels::DType ResidentType(const v1::TensorDescription& tensor, const v1::Architecture& arch) {
  if (tensor.shape_size() < 2) return kernels::DType::kF32;
  const bool cut_inside_blocks =
      tensor.axis() == v1::SHARD_AXIS_Q_HEAD_COLS && IsQuantized(tensor.type()) &&
      model::LayerAt(arch, tensor.layer()).attention().head_dim() % 32 != 0;
  return cut_inside_blocks ? kernels::DType::kF32 : RepackedType(tensor.type());
}

absl::StatusOr<Quantization> ParseQuantization(absl::string_view name) {
  if (name.empty()) return Quantization::kAsStored;
  if (name == "fp8") return Quantization::kFp8;
  return absl::InvalidArgumentError(
      absl::StrCat("quantization: expected fp8, found \"", Printable(name), "\""));
}

}  // namespace tessera::worker
