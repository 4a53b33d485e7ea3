// The values of a chunk's positions, weighed and added up for rows.
//
// A sum adds its products one step of positions after another; lanes of a vector are dimensions. A
// pair of which a row attends to one position is multiplied with zeros in place of the other, which
// may be stale. So where a step can be such a half, each row goes alone.
//
// Included by instruction-set code only.
#ifndef TESSERA_KERNELS_CPU_ATTENTION_VALUES_H_
#define TESSERA_KERNELS_CPU_ATTENTION_VALUES_H_

#include <cstdint>

#include "kernels/cpu/attention_rows.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

// What of a step's positions is attended to. kAlone: the first, and a second does not exist.
enum class Attended { kAll, kFirst, kSecond, kAlone };

// visit<Attended>(values, position): each step in order, its values and its first position. `range`
// is not empty. The values of the next block are asked for meanwhile; and the keys of the next
// chunk where `ask_keys`.
template <typename Kept, typename Visitor>
TESSERA_INLINE void VisitSteps(const Cached<typename Kept::Element>& cached, Positions range,
                               bool ask_keys, Visitor visit) {
  using Element = typename Kept::Element;
  constexpr int kWidth = Kept::kWidth;
  const Kv<Element>& values = cached.values;
  const int step_elements = values.head_dim * kWidth;
  int block_begin = range.begin - range.begin % values.block_tokens;
  const int32_t* block = values.blocks + range.begin / values.block_tokens;
  for (; block_begin < range.end; block_begin += values.block_tokens, ++block) {
    const int begin = Most(block_begin, range.begin);
    const int block_end = block_begin + values.block_tokens;
    const int end = Least(block_end, range.end);
    int at = begin - (begin - block_begin) % kWidth;
    const Element* row =
        values.Block(block) + static_cast<int64_t>(at - block_begin) * values.head_dim;
    const Element* ahead = end < range.end ? values.Block(block + 1) : row;
    const int later = at + kAttentionChunk;
    const bool ask = ask_keys && later < cached.end;
    const Element* keys = ask ? cached.keys.Row(later) : row;
    const auto pass = [&]() __attribute__((always_inline)) {
      for (int i = 0; i < step_elements; i += kLineElements<Element>) {
        AskSoon(ahead + i);
        if (ask) AskLater(keys + i);
      }
      at += kWidth, row += step_elements, ahead += step_elements, keys += step_elements;
    };
    if constexpr (kWidth == 2) {
      if (at < begin) {
        visit.template operator()<Attended::kSecond>(row, at);
        pass();
      }
    }
    while (at + kWidth <= end) {
      visit.template operator()<Attended::kAll>(row, at);
      pass();
    }
    if constexpr (kWidth == 2) {
      if (at < end) {
        if (end == block_end) {
          visit.template operator()<Attended::kAlone>(row, at);
        } else {
          visit.template operator()<Attended::kFirst>(row, at);
        }
        pass();
      }
    }
  }
}

// kLanes dimensions of a step's values from dim d on, or only the first `rest` where kPartial.
template <typename Kept, Attended kAttended, bool kPartial>
TESSERA_INLINE typename Kept::Steps LoadValues(const typename Kept::Element* row, int d, int rest) {
  if constexpr (kAttended == Attended::kAlone) {
    return Kept::LoadFirsts(row + d, kPartial ? rest : kLanes);
  } else {
    const auto* p = row + d * Kept::kWidth;
    const auto all = kPartial ? Kept::LoadSome(p, rest) : Kept::LoadSteps(p);
    if constexpr (kAttended == Attended::kFirst) return Kept::KeepFirsts(all);
    if constexpr (kAttended == Attended::kSecond) return Kept::KeepSeconds(all);
    return all;
  }
}

// Adds the values of `range`, weighed, to dimensions [d, d + kVecs * kLanes) of kRows results; only
// the first `rest` of them where kPartial. weights: [row][position], kWeightsStride apart.
template <typename Kept, int kRows, int kVecs, bool kPartial>
TESSERA_INLINE void Weigh(const Cached<typename Kept::Element>& cached, Positions range,
                          const typename Kept::Factor* weights, bool ask_keys, int d, int rest,
                          Vec (*results)[kVecs]) {
  const auto add = [&]<Attended kAttended>(const typename Kept::Element* row, int position)
      __attribute__((always_inline)) {
    typename Kept::Steps values[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      values[v] = LoadValues<Kept, kAttended, kPartial>(row, d + v * kLanes, rest);
    }
    for (int r = 0; r < kRows; ++r) {
      const auto weight = Kept::SetFactors(weights + r * kWeightsStride + position);
      for (int v = 0; v < kVecs; ++v) {
        results[r][v] = Kept::AddProducts(results[r][v], values[v], weight);
      }
    }
  };
  VisitSteps<Kept>(cached, range, ask_keys, add);
}

// One row alone, which continues where all rows did not go together.
template <typename Kept, int kVecs, bool kPartial>
TESSERA_INLINE void WeighAlone(const Cached<typename Kept::Element>& cached, Positions range,
                               const typename Kept::Factor* weights, bool ask_keys, int d, int rest,
                               Vec* results) {
  if (range.begin >= range.end) return;
  Vec alone[1][kVecs];
  for (int v = 0; v < kVecs; ++v) alone[0][v] = results[v];
  Weigh<Kept, 1, kVecs, kPartial>(cached, range, weights, ask_keys, d, rest, alone);
  for (int v = 0; v < kVecs; ++v) results[v] = alone[0][v];
}

// The whole steps that all rows attend to.
template <typename Kept, int kRows, bool kFirst>
TESSERA_INLINE Positions CommonSteps(const Rows<typename Kept::Factor, kRows, kFirst>& rows,
                                     int block_tokens) {
  Positions common = rows.range[0];
  for (int r = 1; r < kRows; ++r) {
    common = {Most(common.begin, rows.range[r].begin), Least(common.end, rows.range[r].end)};
  }
  // Blocks begin with a whole step.
  common.begin += common.begin % block_tokens % Kept::kWidth;
  common.end -= common.end % block_tokens % Kept::kWidth;
  return common;
}

// Dimensions [d, d + kVecs * kLanes) of the rows' states; only `rest` of them where kPartial.
template <typename Kept, int kVecs, bool kPartial, int kRows, bool kFirst>
void WeighDims(const Rows<typename Kept::Factor, kRows, kFirst>& rows,
               const Cached<typename Kept::Element>& cached, int chunk_begin, int d, int rest) {
  const bool ask_keys = kFirst && d == 0;
  Vec results[kRows][kVecs];
  const typename Kept::Factor* weights = rows.weights - chunk_begin;  // [row][position]
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) results[r][v] = Zero();
  }
  const auto alone = [&](int r, Positions range) __attribute__((always_inline)) {
    WeighAlone<Kept, kVecs, kPartial>(cached, range, weights + r * kWeightsStride, ask_keys, d,
                                      rest, results[r]);
  };
  const Positions common = CommonSteps<Kept>(rows, cached.values.block_tokens);
  if (kRows > 1 && common.begin < common.end) {
    for (int r = 0; r < kRows; ++r) alone(r, {rows.range[r].begin, common.begin});
    Weigh<Kept, kRows, kVecs, kPartial>(cached, common, weights, ask_keys, d, rest, results);
    for (int r = 0; r < kRows; ++r) alone(r, {common.end, rows.range[r].end});
  } else {
    for (int r = 0; r < kRows; ++r) alone(r, rows.range[r]);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) {
      Store(rows.state[r] + kStateHead + d + v * kLanes, results[r][v]);
    }
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_ATTENTION_VALUES_H_
