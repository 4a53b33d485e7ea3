#include "coordinator/schedule/block_pool.h"

#include <set>

#include <gtest/gtest.h>

namespace tessera::coordinator {
namespace {

TEST(BlockPoolTest, GivesEveryBlockOnce) {
  BlockPool pool(5);
  std::vector<int32_t> first, second;
  EXPECT_TRUE(pool.Grow(3, &first));
  EXPECT_TRUE(pool.Grow(2, &second));
  EXPECT_EQ(pool.free_count(), 0);
  std::set<int32_t> all(first.begin(), first.end());
  all.insert(second.begin(), second.end());
  EXPECT_EQ(all, (std::set<int32_t>{0, 1, 2, 3, 4}));
}

TEST(BlockPoolTest, GrowsATableToACountAllOrNothing) {
  BlockPool pool(4);
  std::vector<int32_t> table;
  EXPECT_TRUE(pool.Grow(2, &table));
  const std::vector<int32_t> before = table;
  EXPECT_FALSE(pool.Grow(5, &table));
  EXPECT_EQ(table, before);
  EXPECT_EQ(pool.free_count(), 2);
  EXPECT_TRUE(pool.Grow(2, &table)) << "it has two already";
  EXPECT_TRUE(pool.Grow(1, &table)) << "never shrinks";
  EXPECT_EQ(table, before);
  EXPECT_TRUE(pool.Grow(4, &table));
  EXPECT_EQ(pool.free_count(), 0);
}

TEST(BlockPoolTest, TakesThemBack) {
  BlockPool pool(4);
  std::vector<int32_t> table;
  ASSERT_TRUE(pool.Grow(4, &table));
  pool.Release(&table);
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(pool.free_count(), 4);
  EXPECT_TRUE(pool.Grow(4, &table));
}

TEST(BlockPoolDeathTest, DoubleFreeAndForeignBlocksAbort) {
  BlockPool pool(4);
  std::vector<int32_t> table;
  ASSERT_TRUE(pool.Grow(2, &table));
  std::vector<int32_t> twice = {table[0], table[0]};
  EXPECT_DEATH(pool.Release(&twice), "freed twice: block 0 of 4");
  std::vector<int32_t> never = {3};
  EXPECT_DEATH(pool.Release(&never), "freed twice: block 3 of 4");
  std::vector<int32_t> foreign = {4};
  EXPECT_DEATH(pool.Release(&foreign), "does not exist: 4 of 4");
  std::vector<int32_t> negative = {-1};
  EXPECT_DEATH(pool.Release(&negative), "does not exist: -1 of 4");
}

}  // namespace
}  // namespace tessera::coordinator
