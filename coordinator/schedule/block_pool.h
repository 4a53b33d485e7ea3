// The KV blocks that nobody holds. The ids mean the same on every rank of the group: one block
// table serves all of them, so one pool in the coordinator is enough.
//
// Not thread-safe: the scheduler's. A block freed twice, or one that never existed, is a broken
// invariant of ours and aborts with a message.
//
//   BlockPool pool(8);
//   std::vector<int32_t> table;
//   if (pool.Grow(3, &table)) ...   // three more blocks, or none
//   pool.Release(&table);
#ifndef TESSERA_COORDINATOR_SCHEDULE_BLOCK_POOL_H_
#define TESSERA_COORDINATOR_SCHEDULE_BLOCK_POOL_H_

#include <cstdint>
#include <vector>

namespace tessera::coordinator {

class BlockPool {
 public:
  explicit BlockPool(int num_blocks);

  // Appends blocks until `table` holds `count` of them. All or nothing: false when too few are
  // free.
  bool Grow(int count, std::vector<int32_t>* table);

  // Gives every block of `table` back and clears it.
  void Release(std::vector<int32_t>* table);

  int free_count() const { return static_cast<int>(free_.size()); }
  int total() const { return static_cast<int>(taken_.size()); }

 private:
  std::vector<int32_t> free_;  // a stack: the block freed last is the warmest
  std::vector<bool> taken_;    // index = block id
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_BLOCK_POOL_H_
