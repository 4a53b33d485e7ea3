// The ModelFile over tensors that lie in mapped files, whichever format they came from.
#ifndef TESSERA_WORKER_FILES_STORED_MODEL_H_
#define TESSERA_WORKER_FILES_STORED_MODEL_H_

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "worker/files/mapped_file.h"
#include "worker/files/model_file.h"
#include "worker/files/stored_tensor.h"
#include "worker/files/tensor_table.h"

namespace tessera::worker {

class StoredModel : public ModelFile {
 public:
  // `matched` and `stored` as MatchTensors gave and took them; `files` holds what `stored` borrows.
  // `description` has everything but the tensors and the quantization, which are filled in here.
  static std::unique_ptr<ModelFile> Create(v1::ModelDescription description,
                                           std::vector<MatchedTensor> matched,
                                           std::vector<StoredTensor> stored,
                                           std::vector<std::unique_ptr<MappedFile>> files);

  const v1::ModelDescription& description() const override { return description_; }
  absl::Status ReadSlice(absl::string_view tensor, int64_t row_begin, int64_t row_end,
                         int64_t col_begin, int64_t col_end, void* out) const override;

 private:
  StoredModel() = default;

  v1::ModelDescription description_;
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<StoredTensor> tensors_;  // as description_.tensors()
  std::vector<int64_t> first_rows_;    // alike: of the stored one, the tensor's row 0
  std::vector<std::optional<StoredTensor>> scales_;  // alike, of those of F8_E4M3
  std::unordered_map<std::string, int> index_;
};

// name() from a path: the last component without ".gguf".
std::string ModelName(const std::string& path);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_STORED_MODEL_H_
