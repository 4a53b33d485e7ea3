// Scores of rows over the positions of a chunk, and the weights that they become.
//
// A score adds its products one step of dimensions after another; lanes of a vector are positions.
//
// Included by instruction-set code only.
#ifndef TESSERA_KERNELS_CPU_ATTENTION_SCORES_H_
#define TESSERA_KERNELS_CPU_ATTENTION_SCORES_H_

#include <cstdint>

#include "kernels/cpu/attention_rows.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

// A vector of positions: their block's keys, those to ask for meanwhile, and its values (kLanes
// rows).
template <typename Element>
struct PositionVec {
  const Element* keys;
  int slot;  // of the first position in the block
  const Element* ahead;
  const Element* values;
  int at;  // in the scores
};

// Scores of kVecs vectors of positions, each `count` long (kLanes unless kPartial, which asks for
// nothing).
template <typename Kept, int kVecs, bool kPartial, int kRows, bool kFirst>
TESSERA_INLINE void ScoreVecs(const Rows<typename Kept::Factor, kRows, kFirst>& rows,
                              const PositionVec<typename Kept::Element>* vecs, int count,
                              int block_tokens, int head_dim, float scale) {
  using Element = typename Kept::Element;
  Vec sums[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) sums[r][v] = Zero();
  }
  const auto add = [&](int d, const typename Kept::Steps* keys) __attribute__((always_inline)) {
    for (int r = 0; r < kRows; ++r) {
      const auto q = Kept::SetFactors(rows.q[r] + d);
      for (int v = 0; v < kVecs; ++v) sums[r][v] = Kept::AddProducts(sums[r][v], keys[v], q);
    }
  };
  const int whole = head_dim / Kept::kWidth * Kept::kWidth;
  const Element* first[kVecs];
  for (int v = 0; v < kVecs; ++v) first[v] = vecs[v].keys + vecs[v].slot * Kept::kWidth;
  for (int d = 0; d < whole; d += Kept::kWidth) {
    const int64_t offset = static_cast<int64_t>(d) * block_tokens;
    typename Kept::Steps keys[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      keys[v] =
          kPartial ? Kept::LoadSome(first[v] + offset, count) : Kept::LoadSteps(first[v] + offset);
      if constexpr (!kPartial) AskSoon(vecs[v].ahead + offset);
      if constexpr (!kPartial && kFirst) {
        if (d * kLanes % kLineElements<Element> == 0) AskLater(vecs[v].values + d * kLanes);
      }
    }
    add(d, keys);
  }
  if constexpr (Kept::kWidth == 2) {
    if (whole < head_dim) {
      const int64_t offset = static_cast<int64_t>(whole) * block_tokens;
      typename Kept::Steps keys[kVecs];
      for (int v = 0; v < kVecs; ++v) {
        keys[v] = Kept::LoadFirsts(vecs[v].keys + offset + vecs[v].slot, count);
      }
      add(whole, keys);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) {
      const Vec scaled = Mul(sums[r][v], Set(scale));
      if (kPartial) {
        StorePartial(rows.scores[r] + vecs[v].at, scaled, count);
      } else {
        Store(rows.scores[r] + vecs[v].at, scaled);
      }
    }
  }
}

// Scores of all rows over `range`, from positions a little before it where a vector begins there.
template <typename Kept, int kRows, bool kFirst>
void Scores(const Rows<typename Kept::Factor, kRows, kFirst>& rows,
            const Cached<typename Kept::Element>& cached, Positions range, int chunk_begin,
            float scale) {
  using Element = typename Kept::Element;
  const Kv<Element>& keys = cached.keys;
  PositionVec<Element> vecs[kVecBlock];
  int waiting = 0;
  int position = range.begin;
  while (position < range.end) {
    const int slot = position % keys.block_tokens / kLanes * kLanes;
    const int first = position - position % keys.block_tokens + slot;
    const int count = Least(kLanes, keys.block_tokens - slot);
    if (count < kLanes || first < chunk_begin) {
      // A block's end that is no whole vector, or a vector that begins before the chunk: as far as
      // it goes.
      PositionVec<Element> some = {};
      some.keys = keys.Block(position);
      some.slot = position % keys.block_tokens;
      some.at = position - chunk_begin;
      const int left = Least(first + count, range.end) - position;
      ScoreVecs<Kept, 1, true>(rows, &some, left, keys.block_tokens, keys.head_dim, scale);
    } else {
      PositionVec<Element>& vec = vecs[waiting];
      vec.keys = keys.Block(position);
      vec.slot = slot;
      const int later = first + kVecBlock * kLanes;  // the next vector in this one's place
      vec.ahead = later < range.end ? keys.Block(later) + later % keys.block_tokens * Kept::kWidth
                                    : vec.keys;
      vec.values = cached.values.Row(first);
      vec.at = first - chunk_begin;
      if (++waiting == kVecBlock) {
        ScoreVecs<Kept, kVecBlock, false>(rows, vecs, kLanes, keys.block_tokens, keys.head_dim,
                                          scale);
        waiting = 0;
      }
    }
    position = first + count;
  }
  int v = 0;
  if (kVecBlock > 2 && waiting >= 2) {
    ScoreVecs<Kept, 2, false>(rows, vecs, kLanes, keys.block_tokens, keys.head_dim, scale);
    v = 2;
  }
  for (; v < waiting; ++v) {
    ScoreVecs<Kept, 1, false>(rows, &vecs[v], kLanes, keys.block_tokens, keys.head_dim, scale);
  }
}

struct Mass {
  float highest;  // score
  float sum;      // of the weights
};

// What the values of `count` positions weigh: e^(score - highest), a zero in front and one behind.
// `scores` and `weights` have room up to a whole vector.
template <typename Kept>
Mass Weights(float* scores, int count, typename Kept::Factor* weights) {
  const int padded = (count + kLanes - 1) / kLanes * kLanes;
  for (int i = count; i < padded; ++i) scores[i] = scores[0];
  Vec highest = Load(scores);
  for (int i = kLanes; i < padded; i += kLanes) highest = Max(highest, Load(scores + i));
  const float top = ReduceMax(highest);
  constexpr int kVecs = 4;
  Vec sum = Zero();
  int i = 0;
  for (; i + kVecs * kLanes <= count; i += kVecs * kLanes) {
    Vec e[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) e[v] = Sub(Load(scores + i + v * kLanes), Set(top));
    ExpEach<kVecs>(e);
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      sum = Add(sum, Kept::StoreFactors(weights + i + v * kLanes, e[v]));
    }
  }
  for (; i < count; i += kLanes) {
    Vec weight = Kept::StoreFactors(weights + i, Exp(Sub(Load(scores + i), Set(top))));
    if (i + kLanes > count) {
      Store(scores + i, weight);
      weight = LoadPartial(scores + i, count - i);
    }
    sum = Add(sum, weight);
  }
  weights[-1] = weights[count] = 0;
  return {top, ReduceSum(sum)};
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_ATTENTION_SCORES_H_
