#include "coordinator/schedule/block_pool.h"

#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace tessera::coordinator {
namespace {

[[noreturn]] void Die(const char* what, int value, int total) {
  std::fprintf(stderr, "BlockPool: %s %d of %d\n", what, value, total);
  std::abort();
}

}  // namespace

BlockPool::BlockPool(int num_blocks) {
  if (num_blocks < 0) Die("negative number of blocks:", num_blocks, 0);
  taken_.resize(static_cast<size_t>(num_blocks), false);
  free_.reserve(static_cast<size_t>(num_blocks));
  for (int block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
}

bool BlockPool::Grow(int count, std::vector<int32_t>* table) {
  const int missing = count - static_cast<int>(table->size());
  if (missing > free_count()) return false;
  for (int i = 0; i < missing; ++i) {
    const int32_t block = free_.back();
    free_.pop_back();
    taken_[static_cast<size_t>(block)] = true;
    table->push_back(block);
  }
  return true;
}

void BlockPool::Release(std::vector<int32_t>* table) {
  for (const int32_t block : *table) {
    if (block < 0 || block >= total()) Die("freed a block that does not exist:", block, total());
    if (!taken_[static_cast<size_t>(block)]) Die("freed twice: block", block, total());
    taken_[static_cast<size_t>(block)] = false;
    free_.push_back(block);
  }
  table->clear();
}

}  // namespace tessera::coordinator
