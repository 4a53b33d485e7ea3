// A model on disk as one validated table of tensors, whatever its format.
//
// Open() reads headers only, through mmap, and trusts nothing in them: after it returned OK, every
// tensor of the table lies inside its file, has the shape and a type the architecture calls for,
// and none overlap. Errors are INVALID_ARGUMENT (or NOT_FOUND, UNIMPLEMENTED) in one line naming
// file, tensor, expected and actual.
//
// Threads: immutable after Open; ReadBlocks may run on any thread. Ownership: the file keeps its
// mappings until destroyed.
//
//   TESSERA_ASSIGN_OR_RETURN(auto file, OpenModel(path, LoadFormat::kAuto));
//   const v1::ModelDescription& model = file->description();
#ifndef TESSERA_WORKER_FILES_MODEL_FILE_H_
#define TESSERA_WORKER_FILES_MODEL_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/tensor.h"
#include "tessera/v1/model.pb.h"

namespace tessera::worker {

enum class LoadFormat { kAuto, kGguf, kSafetensors, kDummy };

// "auto", "gguf", "safetensors", "dummy"; INVALID_ARGUMENT otherwise.
absl::StatusOr<LoadFormat> ParseLoadFormat(absl::string_view name);

// kFp8: the layers' matrices become 8-bit floats while they are read (fp8_model.h).
enum class Quantization { kAsStored, kFp8 };

// "fp8", or "" for kAsStored; INVALID_ARGUMENT otherwise.
absl::StatusOr<Quantization> ParseQuantization(absl::string_view name);

// The type a stored tensor has once loaded: K-quants become their 32-wide repacked form, and a
// quantized tensor whose columns are cut at heads that are not a multiple of 32 becomes kF32.
// 1-dimensional tensors (norms, biases) always become kF32.
kernels::DType ResidentType(const v1::TensorDescription& tensor, const v1::Architecture& arch);

class ModelFile {
 public:
  virtual ~ModelFile() = default;

  virtual const v1::ModelDescription& description() const = 0;

  // Writes rows [row_begin, row_end) × columns [col_begin, col_end) of the named tensor, in its
  // ResidentType, rows contiguous, to `out` (exactly that many bytes). 1-dimensional tensors are
  // one row. Columns must be multiples of the resident type's block. Pages read are given back to
  // the system as it goes (MADV_DONTNEED), so that the resident set stays within `out` plus a
  // window of at most 16 MB. INTERNAL for a range outside the tensor.
  virtual absl::Status ReadSlice(absl::string_view tensor, int64_t row_begin, int64_t row_end,
                                 int64_t col_begin, int64_t col_end, void* out) const = 0;
};

// path: a .gguf file, or a Hugging Face folder (config.json, *.safetensors, tokenizer.json). kDummy
// needs the config alone (a folder or a config.json) and makes weights up: the same for every
// layout, from a counter-based generator keyed by tensor name and element.
absl::StatusOr<std::unique_ptr<ModelFile>> OpenModel(
    const std::string& path, LoadFormat format,
    Quantization quantization = Quantization::kAsStored);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_MODEL_FILE_H_
