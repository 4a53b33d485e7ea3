// The tensors of a Hugging Face folder: one or several *.safetensors files.
//
//   file   := u64 n (little endian), n bytes of JSON, data
//   JSON   := { name: {"dtype": D, "shape": [..], "data_offsets": [begin, end]}, ...,
//               "__metadata__": {string: string} }          offsets count from the start of data
//
// Enforced, after the format's own rules: the header is at most 100 MB and starts with '{'; no key
// twice; every size is shape × dtype; the ranges cover the data without overlap or hole.
//
// Ownership: holds the mappings that its tensors borrow. Immutable, any thread.
#ifndef TESSERA_WORKER_FILES_HF_SAFETENSORS_READER_H_
#define TESSERA_WORKER_FILES_HF_SAFETENSORS_READER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/files/mapped_file.h"
#include "worker/files/stored_tensor.h"

namespace tessera::worker {

struct SafetensorsModel {
  std::vector<std::unique_ptr<MappedFile>> files;
  std::vector<StoredTensor> tensors;  // names are unique over all files
};

// folder: with model.safetensors.index.json, its shards and exactly what it maps to them; else
// model.safetensors; else every *.safetensors in the folder. NOT_FOUND when there are none, or when
// one of "-00001-of-00003" is missing.
absl::StatusOr<SafetensorsModel> ReadSafetensorsFolder(const std::string& folder);

// The tensors of one file.
absl::StatusOr<std::vector<StoredTensor>> ReadSafetensorsHeader(const MappedFile& file);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_HF_SAFETENSORS_READER_H_
