#include "worker/files/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "worker/files/file_errors.h"

namespace tessera::worker {

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot open"));
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return FileError(path, "expected a regular file");
  }
  if (info.st_size == 0) {
    close(fd);
    return FileError(path, "the file is empty");
  }
  const auto size = static_cast<uint64_t>(info.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  const int map_errno = errno;
  close(fd);
  if (data == MAP_FAILED) {
    return absl::ErrnoToStatus(map_errno, absl::StrCat(path, ": cannot map ", size, " bytes"));
  }
  return std::unique_ptr<MappedFile>(
      new MappedFile(path, static_cast<const uint8_t*>(data), size));
}

MappedFile::~MappedFile() { munmap(const_cast<uint8_t*>(data_), size_); }

absl::StatusOr<absl::Span<const uint8_t>> MappedFile::Bytes(uint64_t offset,
                                                            uint64_t count) const {
  if (offset > size_ || count > size_ - offset) {
    return FileError(path_, absl::StrCat("truncated: expected ", count, " bytes at offset ", offset,
                                         ", the file has ", size_));
  }
  return absl::MakeConstSpan(data_ + offset, count);
}

void MappedFile::Advise(absl::Span<const uint8_t> bytes, int advice) const {
  if (bytes.empty()) return;
  static const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(bytes.data());
  const uintptr_t begin = address & ~(page - 1);
  const uintptr_t end = (address + bytes.size() + page - 1) & ~(page - 1);
  // Only hints: when the system declines, reading works all the same.
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

void MappedFile::Prefetch(absl::Span<const uint8_t> bytes) const { Advise(bytes, MADV_WILLNEED); }
void MappedFile::Release(absl::Span<const uint8_t> bytes) const { Advise(bytes, MADV_DONTNEED); }

}  // namespace tessera::worker
