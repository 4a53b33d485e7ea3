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
//
// Blocks lie anywhere, so no machine guesses where the next one does, and reading would stand still
// whenever there is something to compute. So a loop asks for what it will read soon; and the tile's
// first rows ask for what is read after the loop, into the second cache: the scores for the values of
// the same positions, the weighted sum for the keys of the next chunk.
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

// Asks for memory that is to be read soon, or after the loop at hand.
TESSERA_INLINE void AskSoon(const void* p) { __builtin_prefetch(p); }
TESSERA_INLINE void AskLater(const void* p) { __builtin_prefetch(p, 0, 2); }

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
  // The position's row, where dimensions lie side by side.
  const Kept* Row(int position) const {
    return Block(position) + static_cast<int64_t>(position % block_tokens) * head_dim;
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

// What a tile attends to.
template <typename Kept>
struct Cached {
  Kv<Kept> keys;
  Kv<Kept> values;
  int end;  // of the positions
};

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

// kRows rows of a tile and their places. kFirst: the tile's first.
template <int kRows, bool kFirst>
struct Rows {
  const float* q[kRows];
  Positions range[kRows];  // in the chunk; where empty, at its begin
  float* scores[kRows];    // [p - chunk begin]
  float* state[kRows];
};

// state := highest, sum, 14 unused, head_dim weighed values, padded to 16
constexpr int kStateHead = 16;
int64_t StateStride(int head_dim) { return kStateHead + (head_dim + 15) / 16 * 16; }

// A vector of positions: its keys, those to ask for meanwhile, and its values (kLanes rows).
template <typename Kept>
struct PositionVec {
  const Kept* keys;
  const Kept* ahead;
  const Kept* values;
  int at;  // in the scores
};

// Scores of kVecs vectors of positions, each `count` long (kLanes unless kPartial, which asks for
// nothing).
template <int kVecs, bool kPartial, int kRows, bool kFirst, typename Kept>
TESSERA_INLINE void ScoreVecs(const Rows<kRows, kFirst>& rows, const PositionVec<Kept>* vecs,
                              int count, int block_tokens, int head_dim, float scale) {
  constexpr int kDimsPerLine = 64 / (kLanes * static_cast<int>(sizeof(Kept)));
  Vec sums[kRows][kVecs];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) sums[r][v] = Zero();
  }
  for (int d = 0; d < head_dim; ++d) {
    Vec key[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      const int64_t offset = static_cast<int64_t>(d) * block_tokens;
      key[v] = kPartial ? LoadKeptPartial(vecs[v].keys + offset, count)
                        : LoadKept(vecs[v].keys + offset);
      if constexpr (!kPartial) AskSoon(vecs[v].ahead + offset);
      if constexpr (!kPartial && kFirst) {
        if (d % kDimsPerLine == 0) AskLater(vecs[v].values + d * kLanes);
      }
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
        StorePartial(rows.scores[r] + vecs[v].at, scaled, count);
      } else {
        Store(rows.scores[r] + vecs[v].at, scaled);
      }
    }
  }
}

// Scores of all rows over `range`, from positions a little before it where a vector begins there.
template <int kRows, bool kFirst, typename Kept>
void Scores(const Rows<kRows, kFirst>& rows, const Cached<Kept>& cached, Positions range,
            int chunk_begin, float scale) {
  const Kv<Kept>& keys = cached.keys;
  PositionVec<Kept> vecs[kVecBlock];
  int waiting = 0;
  int position = range.begin;
  while (position < range.end) {
    const int slot = position % keys.block_tokens / kLanes * kLanes;
    const int first = position - position % keys.block_tokens + slot;
    const int count = Least(kLanes, keys.block_tokens - slot);
    if (count < kLanes || first < chunk_begin) {
      // A block's end that is no whole vector, or a vector that begins before the chunk: as far as
      // it goes.
      PositionVec<Kept> some = {};
      some.keys = keys.Block(position) + position % keys.block_tokens;
      some.at = position - chunk_begin;
      const int left = Least(first + count, range.end) - position;
      ScoreVecs<1, true>(rows, &some, left, keys.block_tokens, keys.head_dim, scale);
    } else {
      PositionVec<Kept>& vec = vecs[waiting];
      vec.keys = keys.Block(position) + slot;
      const int later = first + kVecBlock * kLanes;  // the next vector in this one's place
      vec.ahead = later < range.end ? keys.Block(later) + later % keys.block_tokens : vec.keys;
      vec.values = cached.values.Row(first);
      vec.at = first - chunk_begin;
      if (++waiting == kVecBlock) {
        ScoreVecs<kVecBlock, false>(rows, vecs, kLanes, keys.block_tokens, keys.head_dim, scale);
        waiting = 0;
      }
    }
    position = first + count;
  }
  for (int v = 0; v < waiting; ++v) {
    ScoreVecs<1, false>(rows, &vecs[v], kLanes, keys.block_tokens, keys.head_dim, scale);
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
// for meanwhile; and the keys of the next chunk where `ask_keys`.
template <typename Kept, typename Visitor>
TESSERA_INLINE void VisitValues(const Cached<Kept>& cached, Positions range, bool ask_keys,
                                Visitor visit) {
  const Kv<Kept>& values = cached.values;
  const int dim = values.head_dim;
  int position = range.begin;
  while (position < range.end) {
    const int count =
        Least(values.block_tokens - position % values.block_tokens, range.end - position);
    const Kept* row = values.Row(position);
    const int next = position + count;
    const Kept* ahead = next < range.end ? values.Block(next) : row;
    const int later = position + kAttentionChunk;
    const bool ask = ask_keys && later < cached.end;
    const Kept* keys = ask ? cached.keys.Row(later) : row;
    for (int k = 0; k < count; ++k, row += dim, ahead += dim, keys += dim) {
      for (int d = 0; d < dim; d += 64 / static_cast<int>(sizeof(Kept))) {
        AskSoon(ahead + d);
        if (ask) AskLater(keys + d);
      }
      visit(row, position + k);
    }
    position = next;
  }
}

// Adds the values of `range`, weighed, to dimensions [d, d + kVecs * kLanes) of kRows results; only
// the first `rest` of them where kPartial.
template <int kRows, int kVecs, bool kPartial, typename Kept>
TESSERA_INLINE void Weigh(const Cached<Kept>& cached, Positions range, const float* const* weights,
                          bool ask_keys, int d, int rest, Vec (*results)[kVecs]) {
  VisitValues(cached, range, ask_keys, [&](const Kept* row, int position) {
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
TESSERA_INLINE void WeighAlone(const Cached<Kept>& cached, Positions range, const float* weights,
                               bool ask_keys, int d, int rest, Vec* results) {
  if (range.begin >= range.end) return;
  Vec alone[1][kVecs];
  for (int v = 0; v < kVecs; ++v) alone[0][v] = results[v];
  Weigh<1, kVecs, kPartial>(cached, range, &weights, ask_keys, d, rest, alone);
  for (int v = 0; v < kVecs; ++v) results[v] = alone[0][v];
}

template <int kVecs, bool kPartial, int kRows, bool kFirst, typename Kept>
void WeighDims(const Rows<kRows, kFirst>& rows, const Cached<Kept>& cached, int chunk_begin, int d,
               int rest) {
  const bool ask_keys = kFirst && d == 0;
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
      WeighAlone<kVecs, kPartial>(cached, before, weights[r], ask_keys, d, rest, results[r]);
    }
    Weigh<kRows, kVecs, kPartial>(cached, common, weights, ask_keys, d, rest, results);
    for (int r = 0; r < kRows; ++r) {
      const Positions after = {common.end, rows.range[r].end};
      WeighAlone<kVecs, kPartial>(cached, after, weights[r], ask_keys, d, rest, results[r]);
    }
  } else {
    for (int r = 0; r < kRows; ++r) {
      WeighAlone<kVecs, kPartial>(cached, rows.range[r], weights[r], ask_keys, d, rest, results[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) {
      Store(rows.state[r] + kStateHead + d + v * kLanes, results[r][v]);
    }
  }
}

// One chunk of kRows rows into their states.
template <typename Kept, int kRows, bool kFirst>
void AttendRows(const AttentionArgs& args, const AttentionTile& tile,
                const Rows<kRows, kFirst>& rows, int chunk_begin) {
  Positions all = {chunk_begin + kAttentionChunk, chunk_begin};
  for (int r = 0; r < kRows; ++r) {
    if (rows.range[r].begin == rows.range[r].end) continue;
    all = {Least(all.begin, rows.range[r].begin), Most(all.end, rows.range[r].end)};
  }
  const Cached<Kept> cached = {.keys = KvOf<Kept>(args.cache.keys, args, tile),
                               .values = KvOf<Kept>(args.cache.values, args, tile),
                               .end = tile.start_position + tile.num_tokens};
  Scores(rows, cached, all, chunk_begin, args.shape.scale);
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
    WeighDims<kVecBlock, false>(rows, cached, chunk_begin, d, 0);
  }
  for (; d + kLanes <= dim; d += kLanes) {
    WeighDims<1, false>(rows, cached, chunk_begin, d, 0);
  }
  if (d < dim) WeighDims<1, true>(rows, cached, chunk_begin, d, dim - d);
}

// The rows from `row` on, kRows of them.
template <int kRows, bool kFirst>
void AttendFrom(const AttentionArgs& args, const AttentionTile& tile, int row, int chunk,
                float* state, float* scratch) {
  const Positions within = {chunk * kAttentionChunk, (chunk + 1) * kAttentionChunk};
  const int64_t stride = StateStride(args.shape.head_dim);
  Rows<kRows, kFirst> rows;
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
    AttendRows<uint16_t>(args, tile, rows, within.begin);
  } else {
    AttendRows<float>(args, tile, rows, within.begin);
  }
}

template <bool kFirst>
void AttendSome(const AttentionArgs& args, const AttentionTile& tile, int row, int rows, int chunk,
                float* state, float* scratch) {
  switch (rows) {
    case 1:
      return AttendFrom<1, kFirst>(args, tile, row, chunk, state, scratch);
    case 2:
      return AttendFrom<2, kFirst>(args, tile, row, chunk, state, scratch);
    case 3:
      return AttendFrom<3, kFirst>(args, tile, row, chunk, state, scratch);
    default:
      return AttendFrom<kRowBlock, kFirst>(args, tile, row, chunk, state, scratch);
  }
}

void AttendChunk(const AttentionArgs& args, const AttentionTile& tile, int chunk, float* state,
                 float* scratch) {
  const int count = tile.rows();
  AttendSome<true>(args, tile, 0, Least(count, kRowBlock), chunk, state, scratch);
  for (int row = kRowBlock; row < count; row += kRowBlock) {
    AttendSome<false>(args, tile, row, Least(count - row, kRowBlock), chunk, state, scratch);
  }
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
