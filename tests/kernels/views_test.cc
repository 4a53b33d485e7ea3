#include "kernels/views.h"

#include <gtest/gtest.h>

#include <set>

namespace tessera::kernels {
namespace {

KvCacheView Cache(KvLayout layout, int block_tokens, int head_dim) {
  KvCacheView cache;
  cache.layout = layout;
  cache.num_blocks = 3;
  cache.num_kv_heads = 2;
  cache.block_tokens = block_tokens;
  cache.head_dim = head_dim;
  return cache;
}

TEST(KvLayoutTest, EveryElementHasItsOwnPlaceInItsBlocksHead) {
  for (KvLayout layout : {KvLayout::kByToken, KvLayout::kKeysByDim, KvLayout::kPairs}) {
    for (int block_tokens : {1, 2, 3, 16}) {
      for (int head_dim : {1, 4, 7}) {
        const KvCacheView cache = Cache(layout, block_tokens, head_dim);
        std::set<int64_t> keys, values;
        for (int slot = 0; slot < block_tokens; ++slot) {
          for (int d = 0; d < head_dim; ++d) {
            keys.insert(KeyOffset(cache, slot, d));
            values.insert(ValueOffset(cache, slot, d));
          }
        }
        for (const auto& places : {keys, values}) {
          ASSERT_EQ(static_cast<int>(places.size()), block_tokens * head_dim);
          EXPECT_EQ(*places.begin(), 0);
          EXPECT_EQ(*places.rbegin(), block_tokens * head_dim - 1);
        }
        EXPECT_EQ(KvHeadOffset(cache, 2, 1), (2 * 2 + 1) * block_tokens * head_dim);
      }
    }
  }
}

TEST(KvLayoutTest, KeysPairTheirDimsAndValuesTheirTokens) {
  const KvCacheView even = Cache(KvLayout::kPairs, 16, 64);
  EXPECT_EQ(KeyOffset(even, 0, 1), 1);
  EXPECT_EQ(KeyOffset(even, 1, 0), 2);
  EXPECT_EQ(KeyOffset(even, 5, 63), 31 * 32 + 5 * 2 + 1);
  EXPECT_EQ(ValueOffset(even, 1, 0), 1);
  EXPECT_EQ(ValueOffset(even, 0, 1), 2);
  EXPECT_EQ(ValueOffset(even, 15, 5), 7 * 128 + 5 * 2 + 1);
  const KvCacheView odd = Cache(KvLayout::kPairs, 3, 5);  // what is left over lies side by side
  EXPECT_EQ(KeyOffset(odd, 0, 4), 12);
  EXPECT_EQ(KeyOffset(odd, 2, 4), 14);
  EXPECT_EQ(ValueOffset(odd, 2, 0), 10);
  EXPECT_EQ(ValueOffset(odd, 2, 4), 14);
}

TEST(KvLayoutTest, OtherwiseOnlyKeysLieByDim) {
  const KvCacheView by_token = Cache(KvLayout::kByToken, 3, 5);
  const KvCacheView by_dim = Cache(KvLayout::kKeysByDim, 3, 5);
  EXPECT_EQ(KeyOffset(by_token, 1, 4), 9);
  EXPECT_EQ(KeyOffset(by_dim, 1, 4), 13);
  EXPECT_EQ(ValueOffset(by_token, 1, 4), 9);
  EXPECT_EQ(ValueOffset(by_dim, 1, 4), 9);
}

}  // namespace
}  // namespace tessera::kernels
