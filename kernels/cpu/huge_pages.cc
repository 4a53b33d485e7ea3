#include "kernels/cpu/huge_pages.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace tessera::kernels::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kAlignment = 64;
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kChunkBytes = 0;
#else
constexpr size_t kChunkBytes = size_t{64} << 20;
#endif

// 0 where that is more than there can be.
size_t RoundedUp(size_t bytes, size_t unit) {
  const size_t rounded = (bytes + unit - 1) / unit * unit;
  return rounded < bytes ? 0 : rounded;
}

}  // namespace

std::byte* AllocateHuge(size_t bytes) {
  const size_t rounded = RoundedUp(bytes, kHugePage);
  if (rounded == 0) return nullptr;
  void* data = std::aligned_alloc(kHugePage, rounded);
#if defined(MADV_HUGEPAGE)
  if (data != nullptr) madvise(data, rounded, MADV_HUGEPAGE);
#endif
  return static_cast<std::byte*>(data);
}

void FreeHuge(std::byte* data) { std::free(data); }

// Stands at the beginning of its memory.
struct PieceAllocator::Chunk {
  size_t bytes;
  std::atomic<size_t> references;
};

PieceAllocator::~PieceAllocator() {
  if (chunk_ != nullptr) Release(chunk_);
}

std::byte* PieceAllocator::Allocate(size_t bytes) {
  // Before each piece stands, in a line of its own, which chunk it is of.
  const size_t needed = RoundedUp(bytes + kAlignment, kAlignment);
  if (needed <= bytes) return nullptr;
  if (needed > kChunkBytes - (kChunkBytes > 0 ? kAlignment : 0)) {
    Chunk* own = NewChunk(needed + kAlignment);
    return own == nullptr ? nullptr : Piece(own, kAlignment);
  }
  if (chunk_ == nullptr || used_ + needed > chunk_->bytes) {
    Chunk* next = NewChunk(kChunkBytes);
    if (next == nullptr) return nullptr;
    if (chunk_ != nullptr) Release(chunk_);
    chunk_ = next;
    used_ = kAlignment;
  }
  chunk_->references.fetch_add(1, std::memory_order_relaxed);
  std::byte* piece = Piece(chunk_, used_);
  used_ += needed;
  return piece;
}

void PieceAllocator::Free(std::byte* piece) {
  if (piece == nullptr) return;
  Chunk* chunk;
  std::memcpy(&chunk, piece - kAlignment, sizeof(void*));
  Release(chunk);
}

std::byte* PieceAllocator::Piece(Chunk* chunk, size_t offset) {
  std::byte* line = reinterpret_cast<std::byte*>(chunk) + offset;
  std::memcpy(line, &chunk, sizeof(void*));
  return line + kAlignment;
}

// With one reference: its only piece's, or the allocator's.
PieceAllocator::Chunk* PieceAllocator::NewChunk(size_t bytes) {
  // Less than a huge page is not worth one.
  void* data = bytes < kHugePage ? std::aligned_alloc(kAlignment, RoundedUp(bytes, kAlignment))
                                 : static_cast<void*>(AllocateHuge(bytes));
  if (data == nullptr) return nullptr;
  auto* chunk = new (data) Chunk{bytes, {}};
  chunk->references.store(1, std::memory_order_relaxed);
  return chunk;
}

void PieceAllocator::Release(Chunk* chunk) {
  if (chunk->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    std::free(static_cast<void*>(chunk));
  }
}

}  // namespace tessera::kernels::cpu
