// Attention of a tile: a few tokens of one sequence times the query heads of one KV head, so that
// each key and value is loaded once for up to kRowBlock rows.
//
// Positions are taken in chunks that begin at multiples of kAttentionChunk. A row's state is the
// highest score, the sum of exponentials relative to it, and the values weighed by them; states of
// later chunks are added in order. Within a chunk: all scores, their exponentials, the weighted
// sum. A score adds its products one dimension after another (keys lie by dimension, so that the
// lanes of a vector are positions), a weighted sum its positions. None of it knows which rows came
// along, where the blocks lie, or who computed the chunks before. Keys and values are read as they
// are kept, float32 or bfloat16, and widened in registers.
#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

constexpr int kRowBlock = 4;  // rows side by side
// Vectors of positions (scores) or dimensions (values) side by side: with kRowBlock rows, as many
// sums as the registers hold beside what they are made of.
constexpr int kVecBlock = kLanes == 16 ? 4 : 2;
constexpr int kScoresStride = kAttentionChunk + 16;  // room up to a whole vector behind any range

TESSERA_INLINE Vec LoadKept(const float* p) { return Load(p); }
TESSERA_INLINE Vec LoadKept(const uint16_t* p) { return LoadBFloat16(p); }
TESSERA_INLINE Vec LoadKeptPartial(const float* p, int count) { return LoadPartial(p, count); }
TESSERA_INLINE Vec LoadKeptPartial(const uint16_t* p, int count) {
  uint16_t padded[kLanes] = {};
  for (int i = 0; i < count; ++i) padded[i] = p[i];
  return LoadBFloat16(padded);
}

TESSERA_INLINE int Least(int a, int b) { return a < b ? a : b; }
TESSERA_INLINE int Most(int a, int b) { return a > b ? a : b; }

// One sequence's keys or values in one KV head of the cache.
template <typename Kept>
struct Kv {
  const Kept* base;  // of the store, at this KV head
  const int32_t* blocks;
  int64_t block_stride;  // elements between blocks
  int block_tokens;
  int head_dim;

  const Kept* Block(int position) const {
    return base + blocks[position / block_tokens] * block_stride;
  }
};

template <typename Kept>
Kv<Kept> KvOf(const void* base, const AttentionArgs& args, const AttentionTile& tile) {
  const KvCacheView& cache = args.cache;
  const int64_t head_elements = static_cast<int64_t>(cache.block_tokens) * cache.head_dim;
  return {.base = static_cast<const Kept*>(base) +
                  args.shape.kv_head_of[tile.head_begin] * head_elements,
          .blocks = tile.block_table,
          .block_stride = cache.num_kv_heads * head_elements,
          .block_tokens = cache.block_tokens,
          .head_dim = cache.head_dim};
}

// Half-open positions.
struct Positions {
  int begin;
  int end;
};

// What a row attends to within [begin, end).
Positions RowPositions(const AttentionArgs& args, const AttentionTile& tile, int row,
                       Positions within) {
  const int last = tile.start_position + row / tile.heads();
  const int window = args.shape.sliding_window;
  const int first = window > 0 ? Most(0, last - window + 1) : 0;
  return {Most(first, within.begin), Least(last + 1, within.end)};
}

// kRows rows of a tile and their places.
template <int kRows>
struct Rows {
  const float* q[kRows];
  Positions range[kRows];  // in the chunk; where empty, at its begin
  float* scores[kRows];    // [p - chunk begin]
  float* state[kRows];
};

// state := highest, sum, 14 unused, head_dim weighed values, padded to 16
constexpr int kStateHead = 16;
int64_t StateStride(int head_dim) { return kStateHead + (head_dim + 15) / 16 * 16; }

// Scores of kVecs vectors of positions, each `count` long (kLanes unless kPartial) at keys[v]. What
// lies at ahead[v] is asked for meanwhile, unless kPartial: blocks lie anywhere, so that no machine
// guesses where the next one does.
template <int kRows, int kVecs, bool kPartial, typename Kept>
TESSERA_INLINE void ScoreVecs(const Rows<kRows>& rows, const Kept* const* keys,
                              const Kept* const* ahead, int count, int block_tokens, int head_dim,
                              float scale, const int* at) {
  Vec sums[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) sums[r][v] = Zero();
  }
  for (int d = 0; d < head_dim; ++d) {
    Vec key[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      const Kept* p = keys[v] + static_cast<int64_t>(d) * block_tokens;
      key[v] = kPartial ? LoadKeptPartial(p, count) : LoadKept(p);
      if (!kPartial) __builtin_prefetch(ahead[v] + static_cast<int64_t>(d) * block_tokens);
    }
    for (int r = 0; r < kRows; ++r) {
      const Vec q = Set(rows.q[r][d]);
      for (int v = 0; v < kVecs; ++v) sums[r][v] = MulAdd(q, key[v], sums[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) {
      const Vec scaled = Mul(sums[r][v], Set(scale));
      if (kPartial) {
        StorePartial(rows.scores[r] + at[v], scaled, count);
      } else {
        Store(rows.scores[r] + at[v], scaled);
      }
    }
  }
}

// Scores of all rows over `range`, from positions a little before it where a vector begins there.
template <int kRows, typename Kept>
void Scores(const Rows<kRows>& rows, const Kv<Kept>& keys, Positions range, int chunk_begin,
            float scale) {
  const Kept* vecs[kVecBlock];
  const Kept* ahead[kVecBlock];  // where the positions lie that are kVecBlock vectors later
  int at[kVecBlock];
  int waiting = 0;
  int position = range.begin;
  while (position < range.end) {
    const int slot = position % keys.block_tokens / kLanes * kLanes;
    const int first = position - position % keys.block_tokens + slot;
    const int count = Least(kLanes, keys.block_tokens - slot);
    if (count < kLanes || first < chunk_begin) {
      // A block's end that is no whole vector, or a vector that begins before the chunk: as far as
      // it goes.
      const Kept* p = keys.Block(position) + position % keys.block_tokens;
      const int from = position - chunk_begin;
      const int left = Least(first + count, range.end) - position;
      ScoreVecs<kRows, 1, true>(rows, &p, &p, left, keys.block_tokens, keys.head_dim, scale, &from);
    } else {
      vecs[waiting] = keys.Block(position) + slot;
      const int later = first + kVecBlock * kLanes;
      ahead[waiting] =
          later < range.end ? keys.Block(later) + later % keys.block_tokens : vecs[waiting];
      at[waiting] = first - chunk_begin;
      if (++waiting == kVecBlock) {
        ScoreVecs<kRows, kVecBlock, false>(rows, vecs, ahead, kLanes, keys.block_tokens,
                                           keys.head_dim, scale, at);
        waiting = 0;
      }
    }
    position = first + count;
  }
  for (int v = 0; v < waiting; ++v) {
    ScoreVecs<kRows, 1, false>(rows, &vecs[v], &ahead[v], kLanes, keys.block_tokens, keys.head_dim,
                               scale, &at[v]);
  }
}

// scores become e^(score - highest); returns highest and their sum. `scores` has room up to a whole
// vector.
struct Mass {
  float highest;
  float sum;
};
Mass Exponentials(float* scores, int count) {
  const int padded = (count + kLanes - 1) / kLanes * kLanes;
  for (int i = count; i < padded; ++i) scores[i] = scores[0];
  Vec highest = Load(scores);
  for (int i = kLanes; i < padded; i += kLanes) highest = Max(highest, Load(scores + i));
  const float top = ReduceMax(highest);
  Vec sum = Zero();
  for (int i = 0; i < padded; i += kLanes) {
    Vec e = Exp(Sub(Load(scores + i), Set(top)));
    Store(scores + i, e);
    if (i + kLanes > count) e = LoadPartial(scores + i, count - i);
    sum = Add(sum, e);
  }
  return {top, ReduceSum(sum)};
}

// visit(row, position): each position's value row, in order. The rows of the next block are asked
// for meanwhile.
template <typename Kept, typename Visitor>
TESSERA_INLINE void VisitValues(const Kv<Kept>& values, Positions range, Visitor visit) {
  int position = range.begin;
  while (position < range.end) {
    const int slot = position % values.block_tokens;
    const int count = Least(values.block_tokens - slot, range.end - position);
    const Kept* row = values.Block(position) + static_cast<int64_t>(slot) * values.head_dim;
    const int next = position + count;
    const Kept* ahead = next < range.end ? values.Block(next) : row;
    for (int k = 0; k < count; ++k, row += values.head_dim, ahead += values.head_dim) {
      for (int d = 0; d < values.head_dim; d += 64 / static_cast<int>(sizeof(Kept))) {
        __builtin_prefetch(ahead + d);
      }
      visit(row, position + k);
    }
    position = next;
  }
}

// Adds the values of `range`, weighed, to dimensions [d, d + kVecs * kLanes) of kRows results; only
// the first `rest` of them where kPartial.
template <int kRows, int kVecs, bool kPartial, typename Kept>
TESSERA_INLINE void Weigh(const Kv<Kept>& values, Positions range, const float* const* weights,
                          int d, int rest, Vec (*results)[kVecs]) {
  VisitValues(values, range, [&](const Kept* row, int position) {
    Vec value[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      const Kept* p = row + d + v * kLanes;
      value[v] = kPartial ? LoadKeptPartial(p, rest) : LoadKept(p);
    }
    for (int r = 0; r < kRows; ++r) {
      const Vec weight = Set(weights[r][position]);
      for (int v = 0; v < kVecs; ++v) results[r][v] = MulAdd(weight, value[v], results[r][v]);
    }
  });
}

// One row alone, which continues where all rows did not go together.
template <int kVecs, bool kPartial, typename Kept>
TESSERA_INLINE void WeighAlone(const Kv<Kept>& values, Positions range, const float* weights, int d,
                               int rest, Vec* results) {
  if (range.begin >= range.end) return;
  Vec alone[1][kVecs];
  for (int v = 0; v < kVecs; ++v) alone[0][v] = results[v];
  Weigh<1, kVecs, kPartial>(values, range, &weights, d, rest, alone);
  for (int v = 0; v < kVecs; ++v) results[v] = alone[0][v];
}

template <int kRows, int kVecs, bool kPartial, typename Kept>
void WeighDims(const Rows<kRows>& rows, const Kv<Kept>& values, int chunk_begin, int d, int rest) {
  Vec results[kRows][kVecs];
  const float* weights[kRows];  // [position]
  Positions common = rows.range[0];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) results[r][v] = Zero();
    weights[r] = rows.scores[r] - chunk_begin;
    common = {Most(common.begin, rows.range[r].begin), Least(common.end, rows.range[r].end)};
  }
  if (kRows > 1 && common.begin < common.end) {
    for (int r = 0; r < kRows; ++r) {
      const Positions before = {rows.range[r].begin, common.begin};
      WeighAlone<kVecs, kPartial>(values, before, weights[r], d, rest, results[r]);
    }
    Weigh<kRows, kVecs, kPartial>(values, common, weights, d, rest, results);
    for (int r = 0; r < kRows; ++r) {
      const Positions after = {common.end, rows.range[r].end};
      WeighAlone<kVecs, kPartial>(values, after, weights[r], d, rest, results[r]);
    }
  } else {
    for (int r = 0; r < kRows; ++r) {
      WeighAlone<kVecs, kPartial>(values, rows.range[r], weights[r], d, rest, results[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) {
      Store(rows.state[r] + kStateHead + d + v * kLanes, results[r][v]);
    }
  }
}

// One chunk of kRows rows into their states.
template <int kRows, typename Kept>
void AttendRows(const AttentionArgs& args, const AttentionTile& tile, const Rows<kRows>& rows,
                int chunk_begin) {
  Positions all = {chunk_begin + kAttentionChunk, chunk_begin};
  for (int r = 0; r < kRows; ++r) {
    if (rows.range[r].begin == rows.range[r].end) continue;
    all = {Least(all.begin, rows.range[r].begin), Most(all.end, rows.range[r].end)};
  }
  const auto keys = KvOf<Kept>(args.cache.keys, args, tile);
  const auto values = KvOf<Kept>(args.cache.values, args, tile);
  Scores<kRows>(rows, keys, all, chunk_begin, args.shape.scale);
  for (int r = 0; r < kRows; ++r) {
    const int count = rows.range[r].end - rows.range[r].begin;
    Mass mass = {0, 0};
    if (count > 0) {
      mass = Exponentials(rows.scores[r] + (rows.range[r].begin - chunk_begin), count);
    }
    rows.state[r][0] = mass.highest;
    rows.state[r][1] = mass.sum;
  }
  const int dim = args.shape.head_dim;
  int d = 0;
  for (; d + kVecBlock * kLanes <= dim; d += kVecBlock * kLanes) {
    WeighDims<kRows, kVecBlock, false>(rows, values, chunk_begin, d, 0);
  }
  for (; d + kLanes <= dim; d += kLanes) {
    WeighDims<kRows, 1, false>(rows, values, chunk_begin, d, 0);
  }
  if (d < dim) WeighDims<kRows, 1, true>(rows, values, chunk_begin, d, dim - d);
}

// The rows from `row` on, kRows of them.
template <int kRows>
void AttendFrom(const AttentionArgs& args, const AttentionTile& tile, int row, int chunk,
                float* state, float* scratch) {
  const Positions within = {chunk * kAttentionChunk, (chunk + 1) * kAttentionChunk};
  const int64_t stride = StateStride(args.shape.head_dim);
  Rows<kRows> rows;
  bool any = false;
  for (int r = 0; r < kRows; ++r) {
    const int token = (row + r) / tile.heads();
    const int head = tile.head_begin + (row + r) % tile.heads();
    rows.q[r] =
        args.q + ((tile.first_token + token) * args.shape.num_q_heads + head) * args.shape.head_dim;
    rows.range[r] = RowPositions(args, tile, row + r, within);
    if (rows.range[r].begin >= rows.range[r].end) rows.range[r] = {within.begin, within.begin};
    any = any || rows.range[r].begin < rows.range[r].end;
    rows.scores[r] = scratch + r * kScoresStride;
    rows.state[r] = state + (row + r) * stride;
  }
  if (!any) {
    for (int r = 0; r < kRows; ++r) rows.state[r][1] = 0;
    return;
  }
  if (args.cache.type == DType::kBF16) {
    AttendRows<kRows, uint16_t>(args, tile, rows, within.begin);
  } else {
    AttendRows<kRows, float>(args, tile, rows, within.begin);
  }
}

void AttendChunk(const AttentionArgs& args, const AttentionTile& tile, int chunk, float* state,
                 float* scratch) {
  const int count = tile.rows();
  int row = 0;
  for (; row + kRowBlock <= count; row += kRowBlock) {
    AttendFrom<kRowBlock>(args, tile, row, chunk, state, scratch);
  }
  const int left = count - row;
  if (left == 3) AttendFrom<3>(args, tile, row, chunk, state, scratch);
  if (left == 2) AttendFrom<2>(args, tile, row, chunk, state, scratch);
  if (left == 1) AttendFrom<1>(args, tile, row, chunk, state, scratch);
}

// e^x of one number, as every lane computes it.
float ExpOf(float x) { return ReduceMax(Exp(Set(x))); }

void MergeRow(const float* later, int head_dim, float* state) {
  if (later[1] == 0) return;
  const int64_t stride = StateStride(head_dim);
  if (state[1] == 0) {
    __builtin_memcpy(state, later, stride * sizeof(float));
    return;
  }
  const float highest = state[0] > later[0] ? state[0] : later[0];
  const float own = ExpOf(state[0] - highest);
  const float theirs = ExpOf(later[0] - highest);
  state[0] = highest;
  state[1] = state[1] * own + later[1] * theirs;
  for (int64_t i = kStateHead; i < stride; i += kLanes) {
    Store(state + i, MulAdd(Load(later + i), Set(theirs), Mul(Load(state + i), Set(own))));
  }
}

}  // namespace

int64_t AttentionState(int rows, int head_dim) { return rows * StateStride(head_dim); }

// The scores of a block of rows.
int64_t AttentionScratch() { return kRowBlock * kScoresStride; }

void Attention(const AttentionArgs& args, const AttentionTile& tile, int chunk_begin, int chunk_end,
               float* state, float* scratch) {
  AttendChunk(args, tile, chunk_begin, state, scratch);
  float* later = state + AttentionState(tile.rows(), args.shape.head_dim);
  for (int chunk = chunk_begin + 1; chunk < chunk_end; ++chunk) {
    AttendChunk(args, tile, chunk, later, scratch);
    AttentionMerge(args, tile, later, state);
  }
}

void AttentionMerge(const AttentionArgs& args, const AttentionTile& tile, const float* later,
                    float* state) {
  const int64_t stride = StateStride(args.shape.head_dim);
  for (int row = 0; row < tile.rows(); ++row) {
    MergeRow(later + row * stride, args.shape.head_dim, state + row * stride);
  }
}

void AttentionFinish(const AttentionArgs& args, const AttentionTile& tile, const float* state) {
  const AttentionShape& shape = args.shape;
  const int64_t stride = StateStride(shape.head_dim);
  for (int row = 0; row < tile.rows(); ++row, state += stride) {
    const int64_t token = tile.first_token + row / tile.heads();
    const int head = tile.head_begin + row % tile.heads();
    float* out = args.out + (token * shape.num_q_heads + head) * shape.head_dim;
    const Vec sum = Set(state[1]);
    int d = 0;
    for (; d + kLanes <= shape.head_dim; d += kLanes) {
      Store(out + d, Div(Load(state + kStateHead + d), sum));
    }
    if (d < shape.head_dim) {
      const int rest = shape.head_dim - d;
      StorePartial(out + d, Div(LoadPartial(state + kStateHead + d, rest), sum), rest);
    }
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
