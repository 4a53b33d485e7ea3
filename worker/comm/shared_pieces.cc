#include "worker/comm/shared_pieces.h"

#include <cstdint>

namespace tessera::worker {

std::vector<std::byte*> MapPieces(MpiJob* job, MPI_Comm node, int rank, size_t count,
                                  size_t bytes) {
  // All of it is rank 0's, so that we lay out the pieces: MPI aligns them to nothing in particular,
  // but alike in every process, as it maps whole pages.
  const size_t piece_bytes = (bytes + kPage - 1) / kPage * kPage;
  const MPI_Aint own_bytes = rank == 0 ? static_cast<MPI_Aint>(kPage + piece_bytes * count) : 0;
  void* own = nullptr;
  MPI_Win window = MPI_WIN_NULL;
  if (MPI_Win_allocate_shared(own_bytes, 1, MPI_INFO_NULL, node, &own, &window) != MPI_SUCCESS) {
    return {};
  }
  job->Adopt(window);
  MPI_Aint found_bytes = 0;
  int unit = 0;
  void* base = nullptr;
  if (MPI_Win_shared_query(window, 0, &found_bytes, &unit, &base) != MPI_SUCCESS) return {};
  const uintptr_t first = (reinterpret_cast<uintptr_t>(base) + kPage - 1) / kPage * kPage;
  std::vector<std::byte*> pieces(count);
  for (size_t i = 0; i < count; ++i) {
    pieces[i] = reinterpret_cast<std::byte*>(first + i * piece_bytes);
  }
  return pieces;
}

}  // namespace tessera::worker
