// The header of a GGUF file (versions 2 and 3, little endian): metadata and tensor table.
//
//   file    := "GGUF", u32 version, u64 tensors, u64 pairs, pair*, tensor*, padding, data
//   string  := u64 n, n bytes
//   pair    := string key, u32 type, value
//   value   := number | bool | string | u32 type, u64 n, n values          (type 9, an array)
//   tensor  := string name, u32 dims, u64 size[dims] (innermost first), u32 type, u64 offset
//   padding := to general.alignment (default 32); offsets count from the start of data
//
// Nothing in it is believed: every length, count, offset and type is checked against the file's size
// before it is used or allocated for.
//
// Ownership: a GgufFile owns the mapping; values and tensors borrow from it. Immutable, any thread.
#ifndef TESSERA_WORKER_FILES_GGUF_READER_H_
#define TESSERA_WORKER_FILES_GGUF_READER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/files/gguf/value.h"
#include "worker/files/mapped_file.h"
#include "worker/files/stored_tensor.h"

namespace tessera::worker {

struct GgufFile {
  std::unique_ptr<MappedFile> file;
  GgufMetadata metadata;
  std::vector<StoredTensor> tensors;  // shapes row-major
};

absl::StatusOr<GgufFile> ReadGgufFile(const std::string& path);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_GGUF_READER_H_
