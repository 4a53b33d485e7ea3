#include "worker/comm/shared_pieces.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"

namespace tessera::worker {
namespace {

// Rank 0's file, as others find it: /proc/<pid>/fd/<fd>. Node and number tell it from another
// process's where the ranks do not see the same processes.
struct Place {
  int64_t pid = 0;
  int64_t fd = -1;  // there is none
  uint64_t device = 0;
  uint64_t number = 0;
};

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

int Create(size_t bytes) {
  const int fd = memfd_create("tessera", MFD_CLOEXEC);
  if (fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

Place PlaceOf(int fd) {
  struct stat found {};
  if (fd < 0 || fstat(fd, &found) != 0) return {};
  return {.pid = getpid(), .fd = fd, .device = found.st_dev, .number = found.st_ino};
}

int OpenAt(const Place& place) {
  if (place.fd < 0) return -1;
  const std::string path = absl::StrCat("/proc/", place.pid, "/fd/", place.fd);
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  const Place found = PlaceOf(fd);
  if (found.device == place.device && found.number == place.number) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

bool Reserve(int fd, size_t begin, size_t bytes) {
  int result;
  do {
    result = fallocate(fd, 0, static_cast<off_t>(begin), static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

// Null where it cannot be. Each rank reserves its own piece, which then lies near its cores.
std::shared_ptr<void> Map(int fd, size_t piece_bytes, size_t count, size_t rank) {
  if (fd < 0 || !Reserve(fd, rank * piece_bytes, piece_bytes)) return nullptr;
  const size_t bytes = count * piece_bytes;
  void* const begin = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (begin == MAP_FAILED) return nullptr;
  return std::shared_ptr<void>(begin, [bytes](void* mapped) { munmap(mapped, bytes); });
}

}  // namespace

absl::StatusOr<std::vector<std::byte*>> MapPieces(MpiJob* job, const Call& call,
                                                  MpiTransfers& transfers, int rank, size_t count,
                                                  size_t bytes) {
  const size_t piece_bytes = (bytes + kPage - 1) / kPage * kPage;
  const File created(rank == 0 ? Create(count * piece_bytes) : -1);
  Place place = PlaceOf(created.fd());
  transfers.Begin(call);
  if (rank != 0) TESSERA_RETURN_IF_ERROR(transfers.Receive(0, &place, sizeof(place)));
  for (int peer = 1; rank == 0 && peer < static_cast<int>(count); ++peer) {
    TESSERA_RETURN_IF_ERROR(transfers.Send(peer, &place, sizeof(place)));
  }
  TESSERA_RETURN_IF_ERROR(transfers.Await());

  const File opened(rank == 0 ? -1 : OpenAt(place));
  std::shared_ptr<void> memory = Map(rank == 0 ? created.fd() : opened.fd(), piece_bytes, count,
                                     static_cast<size_t>(rank));
  TESSERA_ASSIGN_OR_RETURN(const bool all_have, transfers.AllTrue(call, memory != nullptr));
  std::vector<std::byte*> pieces;
  if (!all_have) return pieces;
  for (size_t i = 0; i < count; ++i) {
    pieces.push_back(static_cast<std::byte*>(memory.get()) + i * piece_bytes);
  }
  job->Adopt(std::move(memory));
  return pieces;
}

}  // namespace tessera::worker
