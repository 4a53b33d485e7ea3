// Attention of a tile: a few tokens of one sequence times the query heads of one KV head, so that
// each key and value is loaded once for up to kRowBlock rows.
//
// Positions are taken in chunks that begin at multiples of kAttentionChunk. A row's state is the
// highest score, the sum of exponentials relative to it, and the values weighed by them; states of
// later chunks are added in order. Within a chunk: all scores, their exponentials, the weighted
// sum. None of it knows which rows came along, where the blocks lie, or who computed the chunks
// before.
//
// Bfloat16 keys and values are multiplied by bfloat16 queries and weights where the CPU has such
// dot products, and the sum of exponentials is that of the rounded ones; else they are widened in
// registers.
#include "kernels/cpu/attention_kept.h"
#include "kernels/cpu/attention_rows.h"
#include "kernels/cpu/attention_scores.h"
#include "kernels/cpu/attention_values.h"
#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

int64_t PaddedTo16(int count) { return (count + 15) / 16 * 16; }
int64_t StateStride(int head_dim) { return kStateHead + PaddedTo16(head_dim); }

// From a row's scores, or query, to the next one's.
constexpr int kScoresStride = kAttentionChunk + 16;
int64_t QueryStride(int head_dim) { return PaddedTo16(head_dim + 1); }

template <typename Element>
Kv<Element> KvOf(const void* base, const AttentionArgs& args, const AttentionTile& tile) {
  const KvCacheView& cache = args.cache;
  const int64_t head_elements = static_cast<int64_t>(cache.block_tokens) * cache.head_dim;
  return {.base = static_cast<const Element*>(base) +
                  args.shape.kv_head_of[tile.head_begin] * head_elements,
          .blocks = tile.block_table,
          .block_stride = cache.num_kv_heads * head_elements,
          .block_tokens = cache.block_tokens,
          .head_dim = cache.head_dim};
}

// What a row attends to within [begin, end).
Positions RowPositions(const AttentionArgs& args, const AttentionTile& tile, int row,
                       Positions within) {
  const int last = tile.start_position + row / tile.heads();
  const int window = args.shape.sliding_window;
  const int first = window > 0 ? Most(0, last - window + 1) : 0;
  return {Most(first, within.begin), Least(last + 1, within.end)};
}

// q: (head_dim); factors: (QueryStride), a zero behind the last.
template <typename Kept>
void PrepareQuery(const float* q, int head_dim, typename Kept::Factor* factors) {
  int d = 0;
  for (; d + kLanes <= head_dim; d += kLanes) Kept::StoreFactors(factors + d, Load(q + d));
  Kept::StoreFactors(factors + d, LoadPartial(q + d, head_dim - d));
}

// One chunk of kRows rows into their states.
template <typename Kept, int kRows, bool kFirst>
void AttendRows(const AttentionArgs& args, const AttentionTile& tile,
                const Rows<typename Kept::Factor, kRows, kFirst>& rows, int chunk_begin) {
  using Element = typename Kept::Element;
  Positions all = {chunk_begin + kAttentionChunk, chunk_begin};
  for (int r = 0; r < kRows; ++r) {
    if (rows.range[r].begin == rows.range[r].end) continue;
    all = {Least(all.begin, rows.range[r].begin), Most(all.end, rows.range[r].end)};
  }
  const Cached<Element> cached = {.keys = KvOf<Element>(args.cache.keys, args, tile),
                                  .values = KvOf<Element>(args.cache.values, args, tile),
                                  .end = tile.start_position + tile.num_tokens};
  Scores<Kept>(rows, cached, all, chunk_begin, args.shape.scale);
  for (int r = 0; r < kRows; ++r) {
    const int first = rows.range[r].begin - chunk_begin;
    const int count = rows.range[r].end - rows.range[r].begin;
    Mass mass = {0, 0};
    if (count > 0) {
      mass =
          Weights<Kept>(rows.scores[r] + first, count, rows.weights + r * kWeightsStride + first);
    }
    rows.state[r][0] = mass.highest;
    rows.state[r][1] = mass.sum;
  }
  const int dim = args.shape.head_dim;
  int d = 0;
  for (; d + kVecBlock * kLanes <= dim; d += kVecBlock * kLanes) {
    WeighDims<Kept, kVecBlock, false>(rows, cached, chunk_begin, d, 0);
  }
  for (; d + kLanes <= dim; d += kLanes) {
    WeighDims<Kept, 1, false>(rows, cached, chunk_begin, d, 0);
  }
  if (d < dim) WeighDims<Kept, 1, true>(rows, cached, chunk_begin, d, dim - d);
}

// The rows from `row` on, kRows of them.
template <typename Kept, int kRows, bool kFirst>
void AttendFrom(const AttentionArgs& args, const AttentionTile& tile, int row, int chunk,
                float* state, float* scratch) {
  using Factor = typename Kept::Factor;
  const int head_dim = args.shape.head_dim;
  const Positions within = {chunk * kAttentionChunk, (chunk + 1) * kAttentionChunk};
  auto* weights = reinterpret_cast<Factor*>(scratch + kRowBlock * kScoresStride);
  Factor* queries = weights + kRowBlock * kWeightsStride;
  Rows<Factor, kRows, kFirst> rows;
  bool any = false;
  for (int r = 0; r < kRows; ++r) {
    rows.range[r] = RowPositions(args, tile, row + r, within);
    if (rows.range[r].begin >= rows.range[r].end) rows.range[r] = {within.begin, within.begin};
    any = any || rows.range[r].begin < rows.range[r].end;
    rows.state[r] = state + (row + r) * StateStride(head_dim);
  }
  if (!any) {
    for (int r = 0; r < kRows; ++r) rows.state[r][1] = 0;
    return;
  }
  rows.weights = weights + 16;
  for (int r = 0; r < kRows; ++r) {
    const int64_t token = tile.first_token + (row + r) / tile.heads();
    const int head = tile.head_begin + (row + r) % tile.heads();
    Factor* query = queries + r * QueryStride(head_dim);
    PrepareQuery<Kept>(args.q + (token * args.shape.num_q_heads + head) * head_dim, head_dim,
                       query);
    rows.q[r] = query;
    rows.scores[r] = scratch + r * kScoresStride;
  }
  AttendRows<Kept>(args, tile, rows, within.begin);
}

template <typename Kept, bool kFirst>
void AttendSome(const AttentionArgs& args, const AttentionTile& tile, int row, int rows, int chunk,
                float* state, float* scratch) {
  switch (rows) {
    case 1:
      return AttendFrom<Kept, 1, kFirst>(args, tile, row, chunk, state, scratch);
    case 2:
      return AttendFrom<Kept, 2, kFirst>(args, tile, row, chunk, state, scratch);
    case 3:
      return AttendFrom<Kept, 3, kFirst>(args, tile, row, chunk, state, scratch);
    default:
      return AttendFrom<Kept, kRowBlock, kFirst>(args, tile, row, chunk, state, scratch);
  }
}

template <typename Kept>
void AttendTile(const AttentionArgs& args, const AttentionTile& tile, int chunk, float* state,
                float* scratch) {
  const int count = tile.rows();
  AttendSome<Kept, true>(args, tile, 0, Least(count, kRowBlock), chunk, state, scratch);
  for (int row = kRowBlock; row < count; row += kRowBlock) {
    AttendSome<Kept, false>(args, tile, row, Least(count - row, kRowBlock), chunk, state, scratch);
  }
}

void AttendChunk(const AttentionArgs& args, const AttentionTile& tile, int chunk, float* state,
                 float* scratch) {
  if (args.cache.type == DType::kBF16) {
    AttendTile<KeptBFloat16>(args, tile, chunk, state, scratch);
  } else {
    AttendTile<KeptFloat32>(args, tile, chunk, state, scratch);
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

int64_t AttentionScratch(int head_dim) {
  return kRowBlock * (kScoresStride + kWeightsStride + QueryStride(head_dim));
}

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
