// A warp's part of a weight tile (packed_weights.h: 16 rows × 64 columns) as tensor-core operands.
//
// The codes of every quantized type are whole numbers that bfloat16 holds exactly, so a block's
// products run on the tensor cores without rounding its weights: sum(q * x) of 32 columns in
// float32, times the block's factor. Types with a minimum multiply it with sum(x), from the same
// operand against ones. Float types wider than bfloat16 are split into two bfloat16 parts that sum
// to the weight (float16: exactly; float32: to 16 bits). 8-bit floats are exact in bfloat16; their
// rows' scale is what a finished sum is multiplied by.
//
// How a code becomes bfloat16 in one operation per pair: 0x4300 | q is 128 + q (q < 128), from
// which 128 and the type's own offset are subtracted at once.
//
// Columns of fragment step s in block b for lane t = lane % 4: OperandColumn.
#ifndef TESSERA_KERNELS_CUDA_WEIGHT_TILES_CUH_
#define TESSERA_KERNELS_CUDA_WEIGHT_TILES_CUH_

#include "kernels/cuda/packed_weights.h"
#include "kernels/cuda/vectors.cuh"

namespace tessera::kernels::cuda {

template <DType kType>
constexpr bool kIsRowScaled = kType == DType::kF8E4M3;
template <DType kType>
constexpr bool kIsFloat =
    kType == DType::kF32 || kType == DType::kF16 || kType == DType::kBF16 || kIsRowScaled<kType>;
template <DType kType>
constexpr bool kIsK = kType == DType::kQ4_K32 || kType == DType::kQ5_K32;
template <DType kType>
constexpr bool kHasMinimum = kIsK<kType> || kType == DType::kQ4_1 || kType == DType::kQ5_1;
// The factor changes within a block: after 16 columns.
template <DType kType>
constexpr bool kInSixteens = kType == DType::kQ6_K32;
// bfloat16 parts per weight.
template <DType kType>
constexpr int kParts = kType == DType::kF32 || kType == DType::kF16 ? 2 : 1;
// 128 + what is subtracted from a code, twice.
template <DType kType>
constexpr uint32_t kCodeOffset = kType == DType::kQ4_0     ? 0x43084308u
                                 : kType == DType::kQ5_0   ? 0x43104310u
                                 : kType == DType::kQ6_K32 ? 0x43204320u
                                                           : 0x43004300u;
// Bytes of a tile's planes.
template <DType kType>
constexpr int kHighBytes = TileBytesOf(kType).high;
template <DType kType>
constexpr int kFactorBytes = TileBytesOf(kType).factor;
inline constexpr uint32_t kOnes = 0x3f803f80u;  // two bfloat16 ones

// A packed matrix as the kernels read it: 32-bit words.
struct WeightPlanes {
  View<const uint32_t> codes;
  View<const uint32_t> high;
  View<const uint32_t> factor;
  View<const uint32_t> small;
  View<const float> row_scale;
  int64_t rows = 0;
  int64_t row_tiles = 0;
  int64_t col_tiles = 0;
};

inline WeightPlanes PlanesOf(const WeightMatrix& w) {
  const PackedLayout layout = PackedLayoutOf(w.dtype, w.rows, w.cols);
  const TileBytes tile = TileBytesOf(w.dtype);
  const int64_t tiles = layout.row_tiles * layout.col_tiles;
  const auto words = [&w](int64_t offset) {
    return reinterpret_cast<const uint32_t*>(w.data + offset);
  };
  const uint32_t* codes = words(layout.codes);
  const uint32_t* high = words(layout.high);
  const uint32_t* factor = words(layout.factor);
  const uint32_t* small = words(layout.small);
  const float* row_scale = reinterpret_cast<const float*>(w.data + layout.row_scale);
  WeightPlanes planes;
  planes.codes = TESSERA_VIEW(codes, tiles * tile.codes / 4);
  planes.high = TESSERA_VIEW(high, tiles * tile.high / 4);
  planes.factor = TESSERA_VIEW(factor, tiles * tile.factor / 4);
  planes.small = TESSERA_VIEW(small, tiles * tile.small / 4);
  planes.row_scale = TESSERA_VIEW(row_scale, layout.row_tiles * tile.row_scale / 4);
  planes.rows = w.rows;
  planes.row_tiles = layout.row_tiles;
  planes.col_tiles = layout.col_tiles;
  return planes;
}

// What a lane holds of one tile. kStreamed: the weights are read once (bypass the L1 cache).
template <DType kType, bool kStreamed>
class Tile {
 public:
  TESSERA_DEVICE void Load(const WeightPlanes& w, int64_t row_tile, int64_t col_tile) {
    const int lane = Lane();
    const int64_t tile = row_tile * w.col_tiles + col_tile;
    if constexpr (kIsRowScaled<kType>) {
      // Per row: 16 columns from 16t, 8 of each block.
      TESSERA_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int64_t row = row_tile * 16 + lane / 4 + 8 * half;
        codes_[half] = Read<4>(w.codes, (row * w.col_tiles + col_tile) * 16 + lane % 4 * 4);
      }
    } else if constexpr (kIsFloat<kType>) {
      // Per row and block: 8 columns from 8t.
      constexpr int kWordsPerElementPair = kType == DType::kF32 ? 2 : 1;
      TESSERA_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int64_t row = row_tile * 16 + lane / 4 + 8 * half;
        const int64_t pair = (row * w.col_tiles + col_tile) * 32 + lane % 4 * 4;
        TESSERA_UNROLL
        for (int b = 0; b < 2; ++b) {
          TESSERA_UNROLL
          for (int v = 0; v < kWordsPerElementPair; ++v) {
            codes_[(half * 2 + b) * kWordsPerElementPair + v] =
                Read<4>(w.codes, (pair + 16 * b) * kWordsPerElementPair + 4 * v);
          }
        }
      }
    } else {
      TESSERA_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        codes_[v] = Read<4>(w.codes, ((tile * kVectors + v) * 32 + lane) * 4);
      }
      if constexpr (kHighWords > 0) {
        high_ = Read<kHighWords>(w.high, (tile * 32 + lane) * kHighWords);
      }
      factor_ = Read<kFactorWords>(w.factor, (tile * 8 + lane / 4) * kFactorWords);
      if constexpr (kIsK<kType>) small_ = Read<2>(w.small, (tile * 8 + lane / 4) * 2);
    }
  }

  // Fragments of block b, steps 0 and 1: codes, or for floats part `part` of the weights.
  TESSERA_DEVICE void Fragments(int b, int part, uint32_t (&a)[2][4]) const {
    if constexpr (kType == DType::kBF16) {
      TESSERA_UNROLL
      for (int i = 0; i < 8; ++i) a[i / 4][i % 4] = codes_[i % 2 * 2 + b].word[i / 2];
    } else if constexpr (kIsRowScaled<kType>) {
      TESSERA_UNROLL
      for (int i = 0; i < 8; ++i) {
        const uint32_t four = codes_[i % 2].word[2 * b + i / 4];
        a[i / 4][i % 4] = E4M3ToBf16x2(i / 2 % 2 == 0 ? four : four >> 16);
      }
    } else if constexpr (kIsFloat<kType>) {
      TESSERA_UNROLL
      for (int i = 0; i < 8; ++i) {
        const float low = FloatAt(i % 2, b, i / 2 * 2);
        const float high = FloatAt(i % 2, b, i / 2 * 2 + 1);
        const uint32_t rounded = RoundToBf16x2(low, high);
        a[i / 4][i % 4] = part == 0 ? rounded
                                    : RoundToBf16x2(low - LowFloat(rounded),
                                                    high - HighFloat(rounded));
      }
    } else if constexpr (kType == DType::kQ8_0) {
      TESSERA_UNROLL
      for (int i = 0; i < 8; ++i) {
        // The sign bit counts -128: from 128 + the low seven bits, 128 or 256 is subtracted.
        const uint32_t word = codes_[b].word[i / 2] >> (i % 2 * 8);
        a[i / 4][i % 4] = SubBf16x2(And0Or(word, 0x007f007fu, 0x43004300u),
                                    And0Or(word, 0x00800080u, 0x43004300u));
      }
    } else {
      TESSERA_UNROLL
      for (int i = 0; i < 8; ++i) {
        const int step = i / 4;
        const int reg = i % 4;
        uint32_t code =
            And0Or(codes_[0].word[2 * b + step] >> (4 * reg), 0x000f000fu, 0x43004300u);
        if constexpr (kHighWords == 1) {
          code = And0Or(Shifted(high_.word[0], 4 * (2 * b + step) + reg - 4), 0x00100010u, code);
        } else if constexpr (kHighWords == 2) {
          code = And0Or(Shifted(high_.word[b], 2 * (4 * step + reg) - 4), 0x00300030u, code);
        }
        a[step][reg] = SubBf16x2(code, kCodeOffset<kType>);
      }
    }
  }

  // The factor of row g (half 0) or g + 8 (half 1) of the tile; step: kInSixteens only.
  TESSERA_DEVICE float Factor(int b, int half, int step) const {
    if constexpr (kFactorWords == 2) {
      return HalfBitsToFloat(static_cast<uint16_t>(factor_.word[half] >> (16 * b)));
    } else {
      const uint32_t entry = factor_.word[2 * half + b];
      const float d = HalfBitsToFloat(static_cast<uint16_t>(entry));
      if constexpr (kType == DType::kQ6_K32) {
        return d * static_cast<float>(static_cast<int8_t>(entry >> (16 + 8 * step)));
      } else if constexpr (kIsK<kType>) {
        return d * static_cast<float>(small_.word[half] >> (16 * b) & 0xffu);
      } else {
        return d;
      }
    }
  }

  // What is added to every weight of the block.
  TESSERA_DEVICE float Minimum(int b, int half) const {
    const float m = HalfBitsToFloat(static_cast<uint16_t>(factor_.word[2 * half + b] >> 16));
    if constexpr (kIsK<kType>) {
      return -m * static_cast<float>(small_.word[half] >> (16 * b + 8) & 0xffu);
    } else {
      return m;
    }
  }

  // Float types but bfloat16: weight `column` of the lane's 8.
  TESSERA_DEVICE float FloatAt(int half, int b, int column) const {
    if constexpr (kType == DType::kF32) {
      return FloatOfBits(codes_[(half * 2 + b) * 2 + column / 4].word[column % 4]);
    } else {
      const uint32_t pair = codes_[half * 2 + b].word[column / 2];
      return HalfBitsToFloat(static_cast<uint16_t>(pair >> (column % 2 * 16)));
    }
  }

 private:
  static constexpr int kVectors = kType == DType::kF32    ? 8
                                  : kIsRowScaled<kType>   ? 2
                                  : kIsFloat<kType>       ? 4
                                  : kType == DType::kQ8_0 ? 2
                                                          : 1;
  static constexpr int kHighWords = kHighBytes<kType> / 128;
  static constexpr int kFactorWords = kFactorBytes<kType> == 64 ? 2 : 4;

  template <int kWords>
  static TESSERA_DEVICE Bits<kWords> Read(const View<const uint32_t>& plane, int64_t i) {
    if constexpr (kStreamed) return plane.template GetStreamed<kWords>(i);
    return plane.template GetBits<kWords>(i);
  }
  static TESSERA_DEVICE uint32_t Shifted(uint32_t word, int right) {
    return right >= 0 ? word >> right : word << -right;
  }

  Bits<4> codes_[kVectors];
  Bits<kHighWords == 2 ? 2 : 1> high_;
  Bits<kFactorWords> factor_;
  Bits<2> small_;
};

// sum += tile · x for 8 columns of x per kColumns. x[c]: the lane's operand of block b: its words are
// (step 0 b0, step 0 b1, step 1 b0, step 1 b1).
template <DType kType, int kColumns, bool kStreamed>
TESSERA_DEVICE void MultiplyBlock(const Tile<kType, kStreamed>& tile, int b,
                                  const Bits<4> (&x)[kColumns], float (&sum)[kColumns][4]) {
  uint32_t a[2][4];
  if constexpr (kIsFloat<kType>) {
    TESSERA_UNROLL
    for (int part = 0; part < kParts<kType>; ++part) {
      tile.Fragments(b, part, a);
      TESSERA_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        Mma16816(sum[c], a[0], x[c].word[0], x[c].word[1]);
        Mma16816(sum[c], a[1], x[c].word[2], x[c].word[3]);
      }
    }
  } else {
    tile.Fragments(b, 0, a);
    const float factor[2][2] = {{tile.Factor(b, 0, 0), tile.Factor(b, 1, 0)},
                                {tile.Factor(b, 0, 1), tile.Factor(b, 1, 1)}};
    TESSERA_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      float products[4] = {};
      Mma16816(products, a[0], x[c].word[0], x[c].word[1]);
      if constexpr (kInSixteens<kType>) {
        TESSERA_UNROLL
        for (int r = 0; r < 4; ++r) sum[c][r] = FmaRn(products[r], factor[0][r / 2], sum[c][r]);
        TESSERA_UNROLL
        for (int r = 0; r < 4; ++r) products[r] = 0;
      }
      Mma16816(products, a[1], x[c].word[2], x[c].word[3]);
      constexpr int kStep = kInSixteens<kType> ? 1 : 0;
      TESSERA_UNROLL
      for (int r = 0; r < 4; ++r) sum[c][r] = FmaRn(products[r], factor[kStep][r / 2], sum[c][r]);
      if constexpr (kHasMinimum<kType>) {
        const uint32_t ones[4] = {kOnes, kOnes, kOnes, kOnes};
        float inputs[4] = {};
        Mma16816(inputs, ones, x[c].word[0], x[c].word[1]);
        Mma16816(inputs, ones, x[c].word[2], x[c].word[3]);
        TESSERA_UNROLL
        for (int r = 0; r < 4; ++r) {
          sum[c][r] = FmaRn(inputs[r], tile.Minimum(b, r / 2), sum[c][r]);
        }
      }
    }
  }
}

// Where the lane's operand of block b begins among the tile's 64 columns: 16 bytes from 8t of the
// block's 32; for kInSixteens 8 bytes from 4t and from 16 + 4t of them; for kIsRowScaled, whose
// lanes hold 16 columns, 16 bytes from 16t + 8b.
template <DType kType>
TESSERA_DEVICE int OperandColumn(int b, int step) {
  const int t = Lane() % 4;
  if constexpr (kIsRowScaled<kType>) return 16 * t + 8 * b + 4 * step;
  return 32 * b + (kInSixteens<kType> ? 16 * step + 4 * t : 8 * t + 4 * step);
}

// One weight, as tensor.h's grammar has it in float32.
template <DType kType>
TESSERA_DEVICE float WeightAt(const WeightPlanes& w, int64_t row, int64_t col) {
  if constexpr (kType == DType::kF32) {
    return FloatOfBits(w.codes.Get(row * w.col_tiles * 64 + col));
  } else if constexpr (kIsRowScaled<kType>) {
    const int64_t i = row * w.col_tiles * 64 + col;
    return LowFloat(E4M3ToBf16x2(w.codes.Get(i / 4) >> (i % 4 * 8))) * w.row_scale.Get(row);
  } else if constexpr (kIsFloat<kType>) {
    const int64_t i = row * w.col_tiles * 64 + col;
    const auto bits = static_cast<uint16_t>(w.codes.Get(i / 2) >> (i % 2 * 16));
    return kType == DType::kF16 ? HalfBitsToFloat(bits) : FloatOfBits(uint32_t{bits} << 16);
  } else {
    const int64_t tile = row / 16 * w.col_tiles + col / 64;
    const int g = static_cast<int>(row % 8);
    const int half = static_cast<int>(row % 16 / 8);
    const int b = static_cast<int>(col % 64 / 32);
    const int j = static_cast<int>(col % 32);
    const int step = kInSixteens<kType> ? j / 16 : j % 8 / 4;
    const int lane = g * 4 + (kInSixteens<kType> ? j % 16 / 4 : j / 8);
    const int reg = half + j % 4 / 2 * 2;
    const int above = j % 2 * 16;  // the register's high element
    const int entry = g * 4 + half * 2 + b;
    float q;
    if constexpr (kType == DType::kQ8_0) {
      const uint32_t word = w.codes.Get(((tile * 2 + b) * 32 + lane) * 4 + 2 * step + reg / 2);
      q = static_cast<float>(static_cast<int8_t>(word >> (reg % 2 * 8 + above)));
    } else {
      uint32_t code =
          w.codes.Get((tile * 32 + lane) * 4 + 2 * b + step) >> (4 * reg + above) & 15;
      if constexpr (kHighBytes<kType> == 128) {
        const int shift = 4 * (2 * b + step) + reg + above;
        code |= (w.high.Get(tile * 32 + lane) >> shift & 1) << 4;
      } else if constexpr (kHighBytes<kType> == 256) {
        const int shift = 2 * (4 * step + reg) + above;
        code |= (w.high.Get((tile * 32 + lane) * 2 + b) >> shift & 3) << 4;
      }
      q = static_cast<float>(static_cast<int>(code) -
                             static_cast<int>((kCodeOffset<kType> & 0xff)));
    }
    if constexpr (kFactorBytes<kType> == 64) {
      const uint32_t pair = w.factor.Get((tile * 32 + entry) / 2);
      return HalfBitsToFloat(static_cast<uint16_t>(pair >> (entry % 2 * 16))) * q;
    } else {
      const uint32_t factors = w.factor.Get(tile * 32 + entry);
      const float d = HalfBitsToFloat(static_cast<uint16_t>(factors));
      const float m = HalfBitsToFloat(static_cast<uint16_t>(factors >> 16));
      if constexpr (kType == DType::kQ6_K32) {
        return d * static_cast<float>(static_cast<int8_t>(factors >> (16 + 8 * step))) * q;
      } else if constexpr (kIsK<kType>) {
        const uint32_t small = w.small.Get((tile * 32 + entry) / 2) >> (entry % 2 * 16);
        return d * static_cast<float>(small & 0xffu) * q -
               m * static_cast<float>(small >> 8 & 0xffu);
      } else {
        return d * q + m;
      }
    }
  }
}

// visit.template operator()<kType>() for the DType at hand; its int.
template <typename Visitor>
int VisitWeightType(DType dtype, Visitor visit) {
  switch (dtype) {
    case DType::kF32:
      return visit.template operator()<DType::kF32>();
    case DType::kF16:
      return visit.template operator()<DType::kF16>();
    case DType::kBF16:
      return visit.template operator()<DType::kBF16>();
    case DType::kQ8_0:
      return visit.template operator()<DType::kQ8_0>();
    case DType::kQ4_0:
      return visit.template operator()<DType::kQ4_0>();
    case DType::kQ4_1:
      return visit.template operator()<DType::kQ4_1>();
    case DType::kQ5_0:
      return visit.template operator()<DType::kQ5_0>();
    case DType::kQ5_1:
      return visit.template operator()<DType::kQ5_1>();
    case DType::kQ4_K32:
      return visit.template operator()<DType::kQ4_K32>();
    case DType::kQ5_K32:
      return visit.template operator()<DType::kQ5_K32>();
    case DType::kQ6_K32:
      return visit.template operator()<DType::kQ6_K32>();
    case DType::kF8E4M3:
      return visit.template operator()<DType::kF8E4M3>();
  }
  return kNoSuchKernel;
}

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_WEIGHT_TILES_CUH_
