// out = x · wᵀ + bias.
//
// Every output is one vector of partial sums that walks the columns in order, kLanes at a time, and
// is then summed by the tree of simd.h. Few tokens and many differ only in where the weights' floats
// come from (registers, or a tile decoded once into scratch) and in how many outputs are worked on
// side by side, so the same output has the same bits either way.
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/isa_ops.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

constexpr int kRowBlock = 4;  // outputs side by side; ReduceSum4 finishes them together

// Tokens side by side: with kRowBlock rows, as many sums as the registers hold.
constexpr int kTokenBlock = kLanes == 16 ? 6 : kLanes == 8 ? 3 : 2;

// How far ahead of their reading weights are asked for.
constexpr int64_t kPrefetchBytes = 8192;

// A tile of decoded weights should stay in the first-level cache.
constexpr int64_t kTileFloats = 6 * 1024;
constexpr int64_t kMaxTileRows = 16;

int64_t TileStride(int64_t cols) {
  // Whole cache lines, and one more so that rows of 4 KiB do not all fall on the same lines.
  return (cols + 15) / 16 * 16 + 16;
}

int64_t TileRows(int64_t cols) {
  const int64_t rows = kTileFloats / TileStride(cols) / kRowBlock * kRowBlock;
  return rows < kRowBlock ? kRowBlock : rows > kMaxTileRows ? kMaxTileRows : rows;
}

template <int kRows>
TESSERA_INLINE void Finish(const Vec* sums, const float* bias, float* out) {
  if constexpr (kRows == 4) {
    ReduceSum4(sums, out);
  } else {
    for (int r = 0; r < kRows; ++r) out[r] = ReduceSum(sums[r]);
  }
  if (bias) {
    for (int r = 0; r < kRows; ++r) out[r] += bias[r];
  }
}

// kRows outputs of the kTokens tokens, weights decoded in registers.
template <DType kType, int kRows, int kTokens>
void DotRows(const MatMulArgs& args, int64_t row) {
  const int64_t cols = args.w.cols;
  const size_t row_bytes = RowBytes(kType, cols);
  const uint8_t* w = static_cast<const uint8_t*>(args.w.data) + row * row_bytes;
  const float* x = args.x;
  Vec sums[kTokens][kRows];
  for (int t = 0; t < kTokens; ++t) {
    for (int r = 0; r < kRows; ++r) sums[t][r] = Zero();
  }
  const int64_t blocks = cols / 32;
  for (int64_t b = 0; b < blocks; ++b) {
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* block = w + r * row_bytes + b * kBytesPer32<kType>;
      // Weights come from memory, in runs too short for the hardware to look far ahead.
      __builtin_prefetch(block + kPrefetchBytes);
      Vec weights[kBlockVecs];
      DecodeBlock<kType>(block, weights);
      for (int t = 0; t < kTokens; ++t) {
        for (int v = 0; v < kBlockVecs; ++v) {
          const Vec input = Load(x + t * cols + b * 32 + v * kLanes);
          sums[t][r] = MulAdd(weights[v], input, sums[t][r]);
        }
      }
    }
  }
  if constexpr (kIsFloat<kType>) {
    constexpr size_t kElementBytes = kBytesPer32<kType> / 32;
    int64_t i = blocks * 32;
    for (; i + kLanes <= cols; i += kLanes) {
      for (int r = 0; r < kRows; ++r) {
        const Vec weights = LoadFloats<kType>(w + r * row_bytes + i * kElementBytes);
        for (int t = 0; t < kTokens; ++t) {
          sums[t][r] = MulAdd(weights, Load(x + t * cols + i), sums[t][r]);
        }
      }
    }
    if (i < cols) {
      const int rest = static_cast<int>(cols - i);
      for (int r = 0; r < kRows; ++r) {
        const Vec weights = LoadLastFloats<kType>(w + r * row_bytes + i * kElementBytes, rest);
        for (int t = 0; t < kTokens; ++t) {
          sums[t][r] = MulAdd(weights, LoadPartial(x + t * cols + i, rest), sums[t][r]);
        }
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    Finish<kRows>(sums[t], args.bias ? args.bias + row : nullptr,
                  args.out + t * args.w.rows + row);
  }
}

// The same for `tokens` <= kTokens.
template <DType kType, int kRows, int kTokens>
void DotRowsUpTo(const MatMulArgs& args, int64_t row, int64_t tokens) {
  if (tokens == kTokens) return DotRows<kType, kRows, kTokens>(args, row);
  if constexpr (kTokens > 1) DotRowsUpTo<kType, kRows, kTokens - 1>(args, row, tokens);
}

// All tokens, which are at most kTokenBlock.
template <DType kType>
void FewTokens(const MatMulArgs& args, int64_t row_begin, int64_t row_end) {
  int64_t r = row_begin;
  for (; r + kRowBlock <= row_end; r += kRowBlock) {
    DotRowsUpTo<kType, kRowBlock, kTokenBlock>(args, r, args.n);
  }
  for (; r < row_end; ++r) DotRowsUpTo<kType, 1, kTokenBlock>(args, r, args.n);
}

// Decoded rows: `stride` floats apart.
struct FloatRows {
  const float* data;
  int64_t stride;
  int64_t first_row;  // of the matrix
  int64_t count;
};

// kRows outputs of kTokens tokens.
template <int kRows, int kTokens>
void DotTile(const MatMulArgs& args, const float* w, int64_t w_stride, int64_t row, int64_t token) {
  const int64_t cols = args.w.cols;
  const float* x = args.x + token * cols;
  Vec sums[kTokens][kRows];
  for (int t = 0; t < kTokens; ++t) {
    for (int r = 0; r < kRows; ++r) sums[t][r] = Zero();
  }
  int64_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) {
    Vec inputs[kTokens];
    for (int t = 0; t < kTokens; ++t) inputs[t] = Load(x + t * cols + i);
    for (int r = 0; r < kRows; ++r) {
      const Vec weights = Load(w + r * w_stride + i);
      for (int t = 0; t < kTokens; ++t) sums[t][r] = MulAdd(weights, inputs[t], sums[t][r]);
    }
  }
  if (i < cols) {
    const int rest = static_cast<int>(cols - i);
    for (int r = 0; r < kRows; ++r) {
      const Vec weights = LoadPartial(w + r * w_stride + i, rest);
      for (int t = 0; t < kTokens; ++t) {
        sums[t][r] = MulAdd(weights, LoadPartial(x + t * cols + i, rest), sums[t][r]);
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    Finish<kRows>(sums[t], args.bias ? args.bias + row : nullptr,
                  args.out + (token + t) * args.w.rows + row);
  }
}

// The same for `tokens` <= kTokens.
template <int kRows, int kTokens>
void DotTileUpTo(const MatMulArgs& args, const float* w, int64_t w_stride, int64_t row,
                 int64_t token, int64_t tokens) {
  if (tokens == kTokens) return DotTile<kRows, kTokens>(args, w, w_stride, row, token);
  if constexpr (kTokens > 1) {
    DotTileUpTo<kRows, kTokens - 1>(args, w, w_stride, row, token, tokens);
  }
}

// All tokens by a few rows. Tokens outside, so that their inputs serve all of the rows.
void AllTokens(const MatMulArgs& args, const FloatRows& rows) {
  for (int64_t token = 0; token < args.n; token += kTokenBlock) {
    const int64_t left = args.n - token;
    const int64_t tokens = left < kTokenBlock ? left : kTokenBlock;
    int64_t r = 0;
    for (; r + kRowBlock <= rows.count; r += kRowBlock) {
      DotTileUpTo<kRowBlock, kTokenBlock>(args, rows.data + r * rows.stride, rows.stride,
                                          rows.first_row + r, token, tokens);
    }
    for (; r < rows.count; ++r) {
      DotTileUpTo<1, kTokenBlock>(args, rows.data + r * rows.stride, rows.stride,
                                  rows.first_row + r, token, tokens);
    }
  }
}

// Rows [first, first + rows.count) of the matrix as floats in `tile`, a few side by side: like a
// single token's product this waits for memory, and one row alone leaves most of it idle.
template <DType kType>
void DecodeTile(const MatMulArgs& args, const FloatRows& rows, float* tile) {
  const int64_t cols = args.w.cols;
  const size_t row_bytes = RowBytes(kType, cols);
  const uint8_t* w = static_cast<const uint8_t*>(args.w.data) + rows.first_row * row_bytes;
  int64_t r = 0;
  if constexpr (!kIsFloat<kType>) {
    for (; r + kRowBlock <= rows.count; r += kRowBlock) {
      for (int64_t b = 0; b < cols / 32; ++b) {
        for (int k = 0; k < kRowBlock; ++k) {
          const uint8_t* block = w + (r + k) * row_bytes + b * kBytesPer32<kType>;
          __builtin_prefetch(block + kPrefetchBytes);
          Vec weights[kBlockVecs];
          DecodeBlock<kType>(block, weights);
          float* out = tile + (r + k) * rows.stride + b * 32;
          for (int v = 0; v < kBlockVecs; ++v) Store(out + v * kLanes, weights[v]);
        }
      }
    }
  }
  for (; r < rows.count; ++r) DecodeRow<kType>(w + r * row_bytes, cols, tile + r * rows.stride);
}

template <DType kType>
void ManyTokens(const MatMulArgs& args, int64_t row_begin, int64_t row_end, float* scratch) {
  const int64_t cols = args.w.cols;
  const int64_t tile_rows = TileRows(cols);
  for (int64_t first = row_begin; first < row_end; first += tile_rows) {
    const int64_t left = row_end - first;
    FloatRows rows{scratch, TileStride(cols), first, left < tile_rows ? left : tile_rows};
    if constexpr (kType == DType::kF32) {
      rows.data = static_cast<const float*>(args.w.data) + first * cols;
      rows.stride = cols;
    } else {
      DecodeTile<kType>(args, rows, scratch);
    }
    AllTokens(args, rows);
  }
}

}  // namespace

int64_t MatMulScratch(const MatMulArgs& args) {
  if (args.n <= kTokenBlock || args.w.dtype == DType::kF32) return 0;
  return TileRows(args.w.cols) * TileStride(args.w.cols);
}

void MatMul(const MatMulArgs& args, int64_t row_begin, int64_t row_end, float* scratch) {
  VisitDType(args.w.dtype, [&]<DType kType>() {
    if (args.n <= kTokenBlock) {
      FewTokens<kType>(args, row_begin, row_end);
    } else {
      ManyTokens<kType>(args, row_begin, row_end, scratch);
    }
  });
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
