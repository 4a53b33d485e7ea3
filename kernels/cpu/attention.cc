// Attention of one token, a few query heads that share a KV head at a time so that each key and
// value is loaded once for all of them.
//
// Two passes: all scores, then their softmax and the weighted sum of values, positions in order.
// A score is one vector of partial sums over head_dim and the tree of simd.h; an output element
// adds its positions one after another. Neither knows where the blocks lie or which heads came
// along. Keys and values are read as they are kept, float32 or bfloat16, and widened in registers.
#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

constexpr int kMaxHeads = kLanes == 16 ? 4 : 2;  // side by side; registers bound it
constexpr int kMaxVecs = 4;                      // vectors of an output side by side

int64_t ScoresStride(int64_t positions) { return (positions + 15) / 16 * 16; }

TESSERA_INLINE Vec LoadKept(const float* p) { return Load(p); }
TESSERA_INLINE Vec LoadKept(const uint16_t* p) { return LoadBFloat16(p); }
TESSERA_INLINE Vec LoadKeptPartial(const float* p, int count) { return LoadPartial(p, count); }
TESSERA_INLINE Vec LoadKeptPartial(const uint16_t* p, int count) {
  uint16_t padded[kLanes] = {};
  for (int i = 0; i < count; ++i) padded[i] = p[i];
  return LoadBFloat16(padded);
}

// The positions [first, last] of one sequence in one KV head of the cache.
struct Context {
  const int32_t* blocks;
  int64_t block_stride;  // elements between blocks
  int64_t head_offset;   // elements from a block's start to this KV head
  int block_tokens;
  int head_dim;
  int first;
  int last;
};

// visit(rows, index, count): `count` rows of head_dim elements lie at `rows`; `index` counts from
// `first`.
template <typename Kept, typename Visitor>
TESSERA_INLINE void VisitRuns(const Context& context, const Kept* base, Visitor visit) {
  int position = context.first;
  while (position <= context.last) {
    const int slot = position % context.block_tokens;
    const int64_t block = context.blocks[position / context.block_tokens];
    const int room = context.block_tokens - slot;
    const int left = context.last - position + 1;
    const int count = left < room ? left : room;
    const Kept* rows = base + block * context.block_stride + context.head_offset +
                       static_cast<int64_t>(slot) * context.head_dim;
    visit(rows, position - context.first, count);
    position += count;
  }
}

// Scaled dot products of kHeads queries with kKeys consecutive keys.
template <int kHeads, int kKeys, typename Kept>
TESSERA_INLINE void ScoreKeys(const float* q, const Kept* keys, int head_dim, float scale,
                              float* scores, int64_t scores_stride) {
  Vec sums[kHeads][kKeys];
  for (int h = 0; h < kHeads; ++h) {
    for (int k = 0; k < kKeys; ++k) sums[h][k] = Zero();
  }
  int i = 0;
  for (; i + kLanes <= head_dim; i += kLanes) {
    for (int k = 0; k < kKeys; ++k) {
      const Vec key = LoadKept(keys + k * head_dim + i);
      for (int h = 0; h < kHeads; ++h) {
        sums[h][k] = MulAdd(key, Load(q + h * head_dim + i), sums[h][k]);
      }
    }
  }
  if (i < head_dim) {
    const int rest = head_dim - i;
    for (int k = 0; k < kKeys; ++k) {
      const Vec key = LoadKeptPartial(keys + k * head_dim + i, rest);
      for (int h = 0; h < kHeads; ++h) {
        sums[h][k] = MulAdd(key, LoadPartial(q + h * head_dim + i, rest), sums[h][k]);
      }
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    float* out = scores + h * scores_stride;
    if constexpr (kKeys == 4) {
      ReduceSum4(sums[h], out);
    } else {
      for (int k = 0; k < kKeys; ++k) out[k] = ReduceSum(sums[h][k]);
    }
    for (int k = 0; k < kKeys; ++k) out[k] *= scale;
  }
}

template <int kHeads, typename Kept>
void Scores(const Context& context, const Kept* keys, const float* q, float scale, float* scores,
            int64_t scores_stride) {
  VisitRuns(context, keys, [&](const Kept* rows, int index, int count) {
    int k = 0;
    for (; k + 4 <= count; k += 4) {
      ScoreKeys<kHeads, 4>(q, rows + static_cast<int64_t>(k) * context.head_dim, context.head_dim,
                           scale, scores + index + k, scores_stride);
    }
    for (; k < count; ++k) {
      ScoreKeys<kHeads, 1>(q, rows + static_cast<int64_t>(k) * context.head_dim, context.head_dim,
                           scale, scores + index + k, scores_stride);
    }
  });
}

// scores become e^(score - highest); returns their sum. `scores` has room up to a whole vector.
float Exponentials(float* scores, int64_t count) {
  const int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
  for (int64_t i = count; i < padded; ++i) scores[i] = scores[0];
  Vec highest = Load(scores);
  for (int64_t i = kLanes; i < padded; i += kLanes) highest = Max(highest, Load(scores + i));
  const Vec top = Set(ReduceMax(highest));
  Vec sum = Zero();
  for (int64_t i = 0; i < padded; i += kLanes) {
    Vec e = Exp(Sub(Load(scores + i), top));
    Store(scores + i, e);
    if (i + kLanes > count) e = LoadPartial(scores + i, static_cast<int>(count - i));
    sum = Add(sum, e);
  }
  return ReduceSum(sum);
}

// Elements [begin, begin + kVecs * kLanes) of kHeads outputs; only the first `rest` where kPartial.
template <int kHeads, int kVecs, bool kPartial, typename Kept>
void WeighValues(const Context& context, const Kept* values, const float* weights,
                 int64_t weights_stride, const float* sums, int begin, int rest, float* out) {
  Vec results[kHeads][kVecs];
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kVecs; ++v) results[h][v] = Zero();
  }
  VisitRuns(context, values, [&](const Kept* rows, int index, int count) {
    for (int k = 0; k < count; ++k) {
      const Kept* row = rows + static_cast<int64_t>(k) * context.head_dim + begin;
      Vec value[kVecs];
      for (int v = 0; v < kVecs; ++v) {
        value[v] = kPartial ? LoadKeptPartial(row + v * kLanes, rest) : LoadKept(row + v * kLanes);
      }
      for (int h = 0; h < kHeads; ++h) {
        const Vec weight = Set(weights[h * weights_stride + index + k]);
        for (int v = 0; v < kVecs; ++v) results[h][v] = MulAdd(weight, value[v], results[h][v]);
      }
    }
  });
  for (int h = 0; h < kHeads; ++h) {
    float* result = out + h * context.head_dim + begin;
    for (int v = 0; v < kVecs; ++v) {
      const Vec mean = Div(results[h][v], Set(sums[h]));
      if (kPartial) {
        StorePartial(result + v * kLanes, mean, rest);
      } else {
        Store(result + v * kLanes, mean);
      }
    }
  }
}

template <int kHeads, typename Kept>
void AttendHeads(const AttentionArgs& args, const Context& context, const float* q, float* scratch,
                 float* out) {
  const int64_t positions = context.last - context.first + 1;
  const int64_t stride = ScoresStride(positions);
  Scores<kHeads>(context, static_cast<const Kept*>(args.cache.keys), q, args.shape.scale, scratch, stride);
  float sums[kHeads];
  for (int h = 0; h < kHeads; ++h) sums[h] = Exponentials(scratch + h * stride, positions);

  const auto* values = static_cast<const Kept*>(args.cache.values);
  const int dim = context.head_dim;
  int i = 0;
  for (; i + kMaxVecs * kLanes <= dim; i += kMaxVecs * kLanes) {
    WeighValues<kHeads, kMaxVecs, false>(context, values, scratch, stride, sums, i, 0, out);
  }
  for (; i + kLanes <= dim; i += kLanes) {
    WeighValues<kHeads, 1, false>(context, values, scratch, stride, sums, i, 0, out);
  }
  if (i < dim)
    WeighValues<kHeads, 1, true>(context, values, scratch, stride, sums, i, dim - i, out);
}

template <int kHeads, typename Kept>
void AttendUpTo(int heads, const AttentionArgs& args, const Context& context, const float* q,
                float* scratch, float* out) {
  if (heads == kHeads) return AttendHeads<kHeads, Kept>(args, context, q, scratch, out);
  if constexpr (kHeads > 1) AttendUpTo<kHeads - 1, Kept>(heads, args, context, q, scratch, out);
}

}  // namespace

int64_t AttentionScratch(int heads, int64_t positions) {
  return (heads < kMaxHeads ? heads : kMaxHeads) * ScoresStride(positions);
}

void Attention(const AttentionArgs& args, int64_t token, int head_begin, int head_end,
               float* scratch) {
  const AttentionShape& shape = args.shape;
  const KvCacheView& cache = args.cache;
  const int last = args.where.positions[token];
  const int64_t head_elements = static_cast<int64_t>(cache.block_tokens) * cache.head_dim;
  const int windowed = last - shape.sliding_window + 1;
  const Context context = {
      .blocks = args.where.block_tables[token],
      .block_stride = cache.num_kv_heads * head_elements,
      .head_offset = shape.kv_head_of[head_begin] * head_elements,
      .block_tokens = cache.block_tokens,
      .head_dim = shape.head_dim,
      .first = shape.sliding_window > 0 && windowed > 0 ? windowed : 0,
      .last = last,
  };
  for (int h = head_begin; h < head_end; h += kMaxHeads) {
    const int heads = head_end - h < kMaxHeads ? head_end - h : kMaxHeads;
    const int64_t offset = (token * shape.num_q_heads + h) * shape.head_dim;
    if (cache.type == DType::kBF16) {
      AttendUpTo<kMaxHeads, uint16_t>(heads, args, context, args.q + offset, scratch,
                                      args.out + offset);
    } else {
      AttendUpTo<kMaxHeads, float>(heads, args, context, args.q + offset, scratch,
                                   args.out + offset);
    }
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
