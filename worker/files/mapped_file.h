// A whole file, read-only, in memory by mmap; every access is checked against its size.
//
// Ownership: unmapped when destroyed; spans borrow from it. Threads: all const methods from any
// thread. The size is that at Open: a file that somebody truncates afterwards is not guarded against.
//
//   TESSERA_ASSIGN_OR_RETURN(auto file, MappedFile::Open(path));
//   TESSERA_ASSIGN_OR_RETURN(auto bytes, file->Bytes(offset, count));
#ifndef TESSERA_WORKER_FILES_MAPPED_FILE_H_
#define TESSERA_WORKER_FILES_MAPPED_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace tessera::worker {

class MappedFile {
 public:
  // NOT_FOUND when there is no such file; INVALID_ARGUMENT for an empty one or one that is not a
  // regular file; PERMISSION_DENIED or the like as the system says.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }

  // Bytes [offset, offset + count); INVALID_ARGUMENT when they are not all inside the file.
  absl::StatusOr<absl::Span<const uint8_t>> Bytes(uint64_t offset, uint64_t count) const;
  absl::Span<const uint8_t> all() const { return {data_, size_}; }

  // Asks the system to read these bytes soon. A hint.
  void Prefetch(absl::Span<const uint8_t> bytes) const;
  // Gives the pages under these bytes back, so that they no longer count as this process's memory.
  // They stay readable: touching them again maps them again.
  void Release(absl::Span<const uint8_t> bytes) const;

 private:
  MappedFile(std::string path, const uint8_t* data, uint64_t size)
      : path_(std::move(path)), data_(data), size_(size) {}
  void Advise(absl::Span<const uint8_t> bytes, int advice) const;

  const std::string path_;
  const uint8_t* const data_;
  const uint64_t size_;
};

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_MAPPED_FILE_H_
