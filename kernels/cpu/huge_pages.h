// Host memory for weights: in huge pages, from which a core reads up to half as fast again as from
// small ones. Where the system refuses them the memory is ordinary, and nothing is said.
//
// Small pieces are cut one after the other from large chunks, so that matrices of a few hundred KiB
// lie in huge pages too and none wastes the rest of one. A chunk is given back when all of its
// pieces are; what a piece leaves is not used again before. With AddressSanitizer every piece is an
// allocation of its own, so that it sees writes past the end.
//
// Threads: one caller at a time of one PieceAllocator; pieces may be freed from any thread and
// outlive it.
//
//   PieceAllocator memory;
//   std::byte* matrix = memory.Allocate(bytes);  // aligned to 64 bytes; null: none left
//   PieceAllocator::Free(matrix);
#ifndef TESSERA_KERNELS_CPU_HUGE_PAGES_H_
#define TESSERA_KERNELS_CPU_HUGE_PAGES_H_

#include <cstddef>

namespace tessera::kernels::cpu {

// Aligned to 2 MiB; null when there is none. FreeHuge takes what AllocateHuge gave.
std::byte* AllocateHuge(size_t bytes);
void FreeHuge(std::byte* data);

class PieceAllocator {
 public:
  PieceAllocator() = default;
  ~PieceAllocator();
  PieceAllocator(const PieceAllocator&) = delete;
  PieceAllocator& operator=(const PieceAllocator&) = delete;

  std::byte* Allocate(size_t bytes);
  static void Free(std::byte* piece);

 private:
  struct Chunk;

  static std::byte* Piece(Chunk* chunk, size_t offset);
  static Chunk* NewChunk(size_t bytes);
  static void Release(Chunk* chunk);

  Chunk* chunk_ = nullptr;  // holds one reference of it
  size_t used_ = 0;
};

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_HUGE_PAGES_H_
