// A model whose layers' matrices are rounded to 8-bit floats while they are read: --quantization
// fp8.
//
// Every row gets the scale that makes its largest weight 448, E4M3's largest: that of the whole
// row, also where only a part of its columns is read, so that every layout computes with the same
// weights (and reads rows whole for it). Embedding, output head, norms and biases stay as they are.
//
//   TESSERA_ASSIGN_OR_RETURN(file, RoundToFp8(std::move(file)));
#ifndef TESSERA_WORKER_FILES_FP8_MODEL_H_
#define TESSERA_WORKER_FILES_FP8_MODEL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/files/model_file.h"

namespace tessera::worker {

// INVALID_ARGUMENT naming the tensor for one that is neither F32, F16, BF16 nor F8_E4M3 already.
absl::StatusOr<std::unique_ptr<ModelFile>> RoundToFp8(std::unique_ptr<ModelFile> file);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_FP8_MODEL_H_
