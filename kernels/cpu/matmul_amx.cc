// Products on the tile unit (AMX) of bfloat16 weights, and of quantized ones for several tokens.
//
// A tile holds 16 tokens' inputs (or 8, 4, 2, 1) or the codes of 16 rows; one instruction adds the
// products of both to a tile of sums. Integer sums are exact, so for quantized weights the outputs
// have the bits that matmul_quantized.cc gives, which does the tokens that are too few for tiles.
// bfloat16 products are always done here, for a single token too.
//
// Tiles belong to a thread and stay as configured until the next configuration.
#if defined(TESSERA_SIMD_AMX)

#include <immintrin.h>

#include "kernels/cpu/codes.h"
#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/low_sums.h"
#include "kernels/cpu/matmul_input.h"
#include "kernels/cpu/matmul_tiles.h"
#include "kernels/cpu/rows_block.h"
#include "kernels/cpu/tile_config.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

// Tiles 0 .. 3 are sums, 4 .. 5 inputs, 6 .. 7 weights. columns: that one product takes.
TESSERA_INLINE void Configure(int tokens, int input_bytes, int weight_rows) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    const bool inputs = tile == 4 || tile == 5;
    config.row_bytes[tile] = static_cast<uint16_t>(inputs ? input_bytes : 64);
    config.rows[tile] = static_cast<uint8_t>(tile < 6 ? tokens : weight_rows);
  }
  LoadTiles(config);
}

// -- quantized ------------------------------------------------------------------------------------

// One block of a group of rows: codes as signed bytes, what symmetric types are too high by taken
// off, in the order that tiles want; scales as floats.
struct PanelBlock {
  alignas(64) int8_t codes[512];
  float scale[2][16];
  float add[16];
};

template <DType kType>
constexpr int kCodesOffset = kType == DType::kQ8_0     ? 128
                             : kType == DType::kQ4_0   ? 8
                             : kType == DType::kQ5_0   ? 16
                             : kType == DType::kQ6_K32 ? 32
                                                       : 0;

template <DType kType>
void UnpackGroup(const uint8_t* block, int64_t blocks, PanelBlock* panel) {
  for (int64_t b = 0; b < blocks; ++b) {
#pragma GCC unroll 9
    for (int64_t line = 0; line < kBlockBytes<kType>; line += 64) {
      __builtin_prefetch(block + 4096 + line);
    }
    RowsBlock rows;
    LoadScales<kType>(block, 0, &rows);
    LoadBlockCodes<kType>(block, 0, rows.codes);
    const __m512i offset = _mm512_set1_epi8(static_cast<char>(kCodesOffset<kType>));
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) {
      _mm512_store_si512(panel[b].codes + 64 * q, _mm512_sub_epi8(rows.codes[q], offset));
    }
    Store(panel[b].scale[0], rows.scale[0]);
    if constexpr (kType == DType::kQ6_K32) Store(panel[b].scale[1], rows.scale[1]);
    if constexpr (kHasAdd<kType>) Store(panel[b].add, rows.add);
    block += kBlockBytes<kType>;
  }
}

// Sums of one plane of tokens' inputs times codes, as many columns as the tiles are configured for.
// sums: (16, 16).
TESSERA_INLINE void TileSums(const int8_t* x, const int8_t* codes, int32_t* sums) {
  _tile_loadd(6, codes, 64);
  _tile_loadd(4, x, 32);
  _tile_zero(0);
  _tile_dpbssd(0, 4, 6);
  _tile_stored(0, sums, 64);
}

// The sums of one block: by planes, then halves of the block where those have scales of their own.
template <DType kType>
struct BlockSums {
  static constexpr int kHalves = kType == DType::kQ6_K32 ? 2 : 1;
  alignas(64) int32_t of[2][kHalves][256];

  TESSERA_INLINE void Compute(int plane, const int8_t* x, const PanelBlock& block) {
    for (int h = 0; h < kHalves; ++h) TileSums(x + 16 * h, block.codes + 256 * h, of[plane][h]);
  }
  // sums + token t's, scaled.
  TESSERA_INLINE Vec AddTo(Vec sums, int plane, int t, const Vec* row_scales, float scale) const {
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) {
      const Vec dots = ToFloats(_mm512_load_si512(of[plane][h] + 16 * t));
      sums = MulAdd(dots, Mul(row_scales[h], Set(scale)), sums);
    }
    return sums;
  }
};

// kTokens tokens of one group, whose panel that is. The float operations are those of
// matmul_quantized.cc in their order.
template <DType kType, int kTokens, bool kPartial>
void MultiplyPanel(const ProductArgs& args, const PanelBlock* panel, int64_t group,
                   const TileTokens& tokens) {
  BlockSums<kType> block_sums[2];
  const int64_t blocks = args.cols / 32;
  const auto* x = reinterpret_cast<const int8_t*>(tokens.values);
  const int64_t step = tokens.stride * 32;
  const float* scales = tokens.scales;  // of the block, then scaled sums
  Vec sums[kTokens];
  LowSums<kTokens> low_sums;
  alignas(64) double totals[kPartial ? kTokens * 16 : 1];
  if constexpr (kPartial) ZeroDoubles<kTokens>(totals);
  int64_t left = args.segment_blocks;
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) sums[t] = Zero();
  // The tiles work one block ahead of the vectors, which else would wait for every sum.
  const auto start_block = [&](int64_t b) __attribute__((always_inline)) {
    block_sums[b % 2].Compute(0, x + b * step, panel[b]);
    if (tokens.PeakedIn<kTokens>(b) != 0) {
      block_sums[b % 2].Compute(1, x + tokens.plane + b * step, panel[b]);
    }
  };
  start_block(0);
  for (int64_t b = 0; b < blocks; ++b) {
    if (b + 1 < blocks) start_block(b + 1);
    const PanelBlock& block = panel[b];
    const BlockSums<kType>& dots = block_sums[b % 2];
    Vec row_scales[BlockSums<kType>::kHalves];
#pragma GCC unroll 2
    for (int h = 0; h < BlockSums<kType>::kHalves; ++h) row_scales[h] = Load(block.scale[h]);
    const Vec add = kHasAdd<kType> ? Load(block.add) : Zero();
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      sums[t] = dots.AddTo(sums[t], 0, t, row_scales, scales[t]);
      if constexpr (kHasAdd<kType>) sums[t] = MulAdd(add, Set(scales[tokens.stride + t]), sums[t]);
    }
    const uint32_t peaked = tokens.PeakedIn<kTokens>(b);
    const auto add_low = [&](int t, Vec sum) __attribute__((always_inline)) {
      return dots.AddTo(sum, 1, t, row_scales, scales[t] * kLowUnit);
    };
    if constexpr (kPartial) {
      VisitPeaked<kTokens>(peaked, [&](int t) __attribute__((always_inline)) {
        AddToDoubles(add_low(t, Zero()), totals + t * 16);
      });
    } else {
      low_sums.AddBlock(peaked, add_low);
    }
    scales += 2 * tokens.stride;
    if constexpr (kPartial) {
      if (--left > 0 && b + 1 < blocks) continue;
      left = args.segment_blocks;
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        AddToDoubles(sums[t], totals + t * 16);
        sums[t] = Zero();
      }
    }
  }
  if constexpr (!kPartial) low_sums.MoveTo(sums);
#pragma GCC unroll 16
  for (int t = 0; t < kTokens; ++t) {
    if constexpr (kPartial) {
      StorePartials(args, tokens.first + t, group * 16, totals + t * 16);
    } else {
      StoreRows(args, tokens.first + t, group * 16, sums[t]);
    }
  }
}

// From `token` on, 16, 8 and 4 tokens of a tile. configured: for how many tokens the tiles are.
template <DType kType, int kTokens>
void PanelTokens(const ProductArgs& args, const PanelBlock* panel, int64_t group,
                 int64_t tile_begin, int64_t tile_tokens, int64_t token, int* configured) {
  constexpr int kInputBytes = kType == DType::kQ6_K32 ? 16 : 32;
  if (token + kTokens <= tile_tokens) {
    if (*configured != kTokens) Configure(kTokens, kInputBytes, kInputBytes / 4);
    *configured = kTokens;
    const TileTokens tokens = TokensOf(args, tile_begin, tile_tokens, token);
    if (args.partials) {
      MultiplyPanel<kType, kTokens, true>(args, panel, group, tokens);
    } else {
      MultiplyPanel<kType, kTokens, false>(args, panel, group, tokens);
    }
    token += kTokens;
  }
  if constexpr (kTokens > 4) {
    PanelTokens<kType, kTokens / 2>(args, panel, group, tile_begin, tile_tokens, token, configured);
  }
}

template <DType kType>
void MultiplyType(const ProductArgs& args, int64_t group_begin, int64_t group_end,
                  uint8_t* scratch) {
  auto* panel = reinterpret_cast<PanelBlock*>(scratch);
  // So many tokens that their inputs stay in the second-level cache while all groups pass.
  constexpr int64_t kCachedBytes = 1024 * 1024;
  const int64_t fit = kCachedBytes / InputBytes(args.form, args.cols, kTokenTile);
  const int64_t some = (fit < 1 ? 1 : fit) * kTokenTile;
  const int64_t blocks = args.cols / 32;
  int configured = 0;
  for (int64_t begin = 0; begin < args.n; begin += some) {
    const int64_t end = begin + some < args.n ? begin + some : args.n;
    for (int64_t group = group_begin; group < group_end; ++group) {
      UnpackGroup<kType>(args.w + group * blocks * kBlockBytes<kType>, blocks, panel);
      for (int64_t tile = begin; tile < end; tile += kTokenTile) {
        const int64_t tokens = args.n - tile < kTokenTile ? args.n - tile : kTokenTile;
        PanelTokens<kType, 16>(args, panel, group, tile, tokens, 0, &configured);
      }
    }
  }
  _tile_release();
}

// -- bfloat16 -------------------------------------------------------------------------------------

// kTokens tokens of kGroups groups of rows side by side, blocks of columns a segment at a time.
// Both planes of the inputs have sums of their own.
template <int kTokens, int kGroups>
void MultiplyBFloat16Groups(const ProductArgs& args, int64_t group, const TileTokens& tokens) {
  const int64_t blocks = BlocksOf(args.cols);
  const uint8_t* w = args.w + group * blocks * 1024;
  const int64_t group_bytes = blocks * 1024;
  const uint8_t* x = tokens.values;
  const int64_t segment = args.partials ? args.segment_blocks : blocks;
  alignas(64) double totals[kGroups][16 * kTokens];
  if (args.partials) __builtin_memset(totals, 0, sizeof(totals));
  for (int64_t begin = 0; begin < blocks; begin += segment) {
    const int64_t end = begin + segment < blocks ? begin + segment : blocks;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t b = begin; b < end; ++b) {
      if constexpr (kTokens <= 2) {
#pragma GCC unroll 16
        for (int line = 0; line < 16; ++line) {
          __builtin_prefetch(w + 4096 + 64 * line);
          if constexpr (kGroups == 2) __builtin_prefetch(w + group_bytes + 4096 + 64 * line);
        }
      }
      _tile_loadd(4, x, 64);
      _tile_loadd(5, x + tokens.plane, 64);
      _tile_loadd(6, w, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 5, 6);
      if constexpr (kGroups == 2) {
        _tile_loadd(7, w + group_bytes, 64);
        _tile_dpbf16ps(2, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
      }
      w += 1024;
      x += tokens.stride * 64;
    }
    alignas(64) float sums[4][256];
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    if constexpr (kGroups == 2) {
      _tile_stored(2, sums[2], 64);
      _tile_stored(3, sums[3], 64);
    }
    for (int g = 0; g < kGroups; ++g) {
      for (int t = 0; t < kTokens; ++t) {
        const Vec sum = Add(Load(sums[2 * g] + 16 * t), Load(sums[2 * g + 1] + 16 * t));
        if (args.partials) {
          AddToDoubles(sum, totals[g] + 16 * t);
        } else {
          StoreRows(args, tokens.first + t, (group + g) * 16, sum);
        }
      }
    }
  }
  if (!args.partials) return;
  for (int g = 0; g < kGroups; ++g) {
    for (int t = 0; t < kTokens; ++t) {
      StorePartials(args, tokens.first + t, (group + g) * 16, totals[g] + 16 * t);
    }
  }
}

struct BFloat16Kernel {
  template <int kTokens>
  static constexpr int kGroups = 2;
  static constexpr int kMaxTokens = 16;
  static int64_t GroupBytes(int64_t cols) { return BlocksOf(cols) * 1024; }
  // Once before all groups of some tokens.
  template <int kTokens>
  static void Begin() {
    Configure(kTokens, 64, 16);
  }
  template <int kGroupCount, int kTokens>
  static void Run(const ProductArgs& args, int64_t group, const TileTokens& tokens) {
    MultiplyBFloat16Groups<kTokens, kGroupCount>(args, group, tokens);
  }
};

}  // namespace

int64_t PanelBytes(int64_t cols) {
  return BlocksOf(cols) * static_cast<int64_t>(sizeof(PanelBlock));
}

void MultiplyPanels(const ProductArgs& args, int64_t group_begin, int64_t group_end,
                    uint8_t* scratch) {
  VisitQuantized(args.dtype, [&]<DType kType>() {
    MultiplyType<kType>(args, group_begin, group_end, scratch);
  });
}

void MultiplyBFloat16(const ProductArgs& args, int64_t group_begin, int64_t group_end) {
  WalkProduct<BFloat16Kernel>(args, group_begin, group_end);
  _tile_release();
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_SIMD_AMX
