// Products of weights in floating types: float32 sums of kSegmentBlocks blocks, column after column,
// added up segment after segment; so neither runs long enough to lose much. Weights of 16 bits are
// widened.
#include "kernels/cpu/isa_ops.h"
#include "kernels/cpu/matmul_input.h"
#include "kernels/cpu/matmul_tiles.h"
#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

constexpr int64_t kSegmentBlocks = 4;

// A step: the columns that 16 rows' worth of one vector of weights holds, one column, or a pair for
// bfloat16.
template <DType kType>
constexpr int kSteps = kType == DType::kBF16 ? 16 : 32;
template <DType kType>
constexpr int64_t kStepBytes = kType == DType::kF16 ? 32 : 64;
#if defined(TESSERA_SIMD_BF16)
template <DType kType>
constexpr bool kDots = kType == DType::kBF16;  // by inputs in the same type
#else
template <DType kType>
constexpr bool kDots = false;
#endif

// kPartial: segments are those of the product, and added up in float64.
template <DType kType, bool kPartial>
struct FloatingKernel {
  // One alone reads memory in a single run, which is what few tokens wait for; two share what is made
  // of the inputs.
  template <int kTokens>
  static constexpr int kGroups = kTokens <= 2 ? 1 : 2;
  static constexpr int kMaxTokens = kLanes == 16 ? 8 : 2;
  static constexpr int64_t kBlockBytes = kSteps<kType> * kStepBytes<kType>;
  static constexpr int64_t kInputBytes = kDots<kType> ? 64 : 128;  // of a token's block

  static int64_t GroupBytes(int64_t cols) { return BlocksOf(cols) * kBlockBytes; }

  // sums[g][t] += weights of one step of kGroupCount groups · inputs of kTokens tokens.
  template <int kGroupCount, int kTokens>
  TESSERA_INLINE static void AddStep(const uint8_t* const* w, int64_t offset, const uint8_t* x,
                                     Vec (*sums)[kTokens]) {
    if constexpr (kDots<kType>) {
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 4
        for (int g = 0; g < kGroupCount; ++g) {
          sums[g][t] = AddBFloat16Dots(sums[g][t], w[g] + offset, x + t * kInputBytes);
        }
      }
      return;
    }
    constexpr int kColumns = kType == DType::kBF16 ? 2 : 1;
    Vec weights[kGroupCount][kColumns];
#pragma GCC unroll 4
    for (int g = 0; g < kGroupCount; ++g) {
      const uint8_t* p = w[g] + offset;
      if constexpr (kType == DType::kF32) {
        weights[g][0] = Load(reinterpret_cast<const float*>(p));
      } else if constexpr (kType == DType::kF16) {
        weights[g][0] = LoadHalf(reinterpret_cast<const uint16_t*>(p));
      } else {
        LoadBFloat16Pairs(p, &weights[g][0], &weights[g][1]);
      }
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      for (int c = 0; c < kColumns; ++c) {
        const Vec input = Set(reinterpret_cast<const float*>(x + t * kInputBytes)[c]);
#pragma GCC unroll 4
        for (int g = 0; g < kGroupCount; ++g) {
          sums[g][t] = MulAdd(weights[g][c], input, sums[g][t]);
        }
      }
    }
  }

  template <int kGroupCount, int kTokens>
  static void Run(const ProductArgs& args, int64_t group, const TileTokens& tokens) {
    constexpr int64_t kPartBytes = kStepBytes<kType> / kParts;
    constexpr int64_t kStepInput = kInputBytes / kSteps<kType>;
    const int64_t blocks = BlocksOf(args.cols);
    const int64_t group_bytes = GroupBytes(args.cols);
    for (int part = 0; part < kParts; ++part) {
      const uint8_t* w[kGroupCount];
#pragma GCC unroll 4
      for (int g = 0; g < kGroupCount; ++g) {
        w[g] = args.w + (group + g) * GroupBytes(args.cols) + part * kPartBytes;
      }
      const uint8_t* x = tokens.values;
      Vec totals[kGroupCount][kTokens];
      alignas(64) double partials[kPartial ? kGroupCount * kTokens * kLanes : 1];
      if constexpr (kPartial) ZeroDoubles<kGroupCount * kTokens>(partials);
      const int64_t segment = kPartial ? args.segment_blocks : kSegmentBlocks;
#pragma GCC unroll 4
      for (int g = 0; g < kGroupCount; ++g) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) totals[g][t] = Zero();
      }
      for (int64_t begin = 0; begin < blocks; begin += segment) {
        const int64_t end = begin + segment < blocks ? begin + segment : blocks;
        Vec sums[kGroupCount][kTokens];
#pragma GCC unroll 4
        for (int g = 0; g < kGroupCount; ++g) {
#pragma GCC unroll 16
          for (int t = 0; t < kTokens; ++t) sums[g][t] = Zero();
        }
        for (int64_t b = begin; b < end; ++b) {
          // Behind a group's end the next groups' begin, which are not the one beside it.
          const bool inside = b * kBlockBytes + kPrefetchBytes < group_bytes;
          const int64_t ahead = kPrefetchBytes + (inside ? 0 : (kGroupCount - 1) * group_bytes);
#pragma GCC unroll 4
          for (int s = 0; s < kSteps<kType>; ++s) {
#pragma GCC unroll 4
            for (int g = 0; g < kGroupCount; ++g) {
              __builtin_prefetch(w[g] + ahead + s * kStepBytes<kType>);
            }
            AddStep<kGroupCount, kTokens>(w, s * kStepBytes<kType>, x + s * kStepInput, sums);
          }
#pragma GCC unroll 4
          for (int g = 0; g < kGroupCount; ++g) w[g] += kBlockBytes;
          x += tokens.stride * kInputBytes;
        }
#pragma GCC unroll 4
        for (int g = 0; g < kGroupCount; ++g) {
#pragma GCC unroll 16
          for (int t = 0; t < kTokens; ++t) {
            if constexpr (kPartial) {
              AddToDoubles(sums[g][t], partials + (g * kTokens + t) * kLanes);
            } else {
              totals[g][t] = Add(totals[g][t], sums[g][t]);
            }
          }
        }
      }
#pragma GCC unroll 4
      for (int g = 0; g < kGroupCount; ++g) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
          const int64_t row = (group + g) * 16 + part * kLanes;
          if constexpr (kPartial) {
            StorePartials(args, tokens.first + t, row, partials + (g * kTokens + t) * kLanes);
          } else {
            StoreRows(args, tokens.first + t, row, totals[g][t]);
          }
        }
      }
    }
  }
};

template <DType kType>
void MultiplyType(const ProductArgs& args, int64_t group_begin, int64_t group_end) {
  if (args.partials) {
    WalkProduct<FloatingKernel<kType, true>>(args, group_begin, group_end);
  } else {
    WalkProduct<FloatingKernel<kType, false>>(args, group_begin, group_end);
  }
}

}  // namespace

void MultiplyFloating(const ProductArgs& args, int64_t group_begin, int64_t group_end) {
  switch (args.dtype) {
    case DType::kF32:
      return MultiplyType<DType::kF32>(args, group_begin, group_end);
    case DType::kF16:
      return MultiplyType<DType::kF16>(args, group_begin, group_end);
    default:
      return MultiplyType<DType::kBF16>(args, group_begin, group_end);
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
