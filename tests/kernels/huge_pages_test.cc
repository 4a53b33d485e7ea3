#include "kernels/cpu/huge_pages.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

namespace tessera::kernels::cpu {
namespace {

TEST(PieceAllocatorTest, PiecesAreAlignedAndDoNotOverlap) {
  PieceAllocator memory;
  const std::vector<size_t> sizes = {0, 1, 63, 64, 65, 4096, size_t{3} << 20, size_t{70} << 20, 7};
  std::vector<std::byte*> pieces;
  for (size_t i = 0; i < sizes.size(); ++i) {
    pieces.push_back(memory.Allocate(sizes[i]));
    ASSERT_NE(pieces[i], nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pieces[i]) % 64, 0u);
    std::memset(pieces[i], static_cast<int>(i), sizes[i]);
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    for (size_t at : {size_t{0}, sizes[i] / 2, sizes[i] - 1}) {
      if (at < sizes[i]) {
        EXPECT_EQ(pieces[i][at], static_cast<std::byte>(i));
      }
    }
    PieceAllocator::Free(pieces[i]);
  }
}

TEST(PieceAllocatorTest, PiecesOutliveTheAllocatorAndAreFreedFromAnyThread) {
  auto memory = std::make_unique<PieceAllocator>();
  std::vector<std::byte*> pieces;
  for (int i = 0; i < 300; ++i) {  // more than a chunk
    pieces.push_back(memory->Allocate(size_t{400} << 10));
    std::memset(pieces.back(), i, 100);
  }
  memory.reset();
  std::thread other([&] {
    for (size_t i = 0; i < pieces.size(); i += 2) PieceAllocator::Free(pieces[i]);
  });
  for (size_t i = 1; i < pieces.size(); i += 2) PieceAllocator::Free(pieces[i]);
  other.join();
}

TEST(PieceAllocatorTest, MoreThanThereIsIsNull) {
  PieceAllocator memory;
  EXPECT_EQ(memory.Allocate(std::numeric_limits<size_t>::max()), nullptr);
  EXPECT_EQ(memory.Allocate(std::numeric_limits<size_t>::max() - 100), nullptr);
#if !defined(__SANITIZE_ADDRESS__)  // which takes a size out of reach for a mistake
  EXPECT_EQ(memory.Allocate(size_t{1} << 60), nullptr);
#endif
}

}  // namespace
}  // namespace tessera::kernels::cpu
