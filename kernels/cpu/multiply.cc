// Which kernel multiplies a matrix of which type, by inputs in which form.
#include "kernels/cpu/isa_ops.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

InputForm InputFormOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
      return InputForm::kFloat32;
    case DType::kBF16:
#if defined(TESSERA_SIMD_AMX)
      return InputForm::kBFloat16Pair;
#elif defined(TESSERA_SIMD_BF16)
      return InputForm::kBFloat16;
#else
      return InputForm::kFloat32;
#endif
    default:
      return InputForm::kInt8;
  }
}

#if defined(TESSERA_SIMD_AMX)

namespace {
constexpr int64_t kLeastTileTokens = 4;
}

void Multiply(const ProductArgs& args, int64_t group_begin, int64_t group_end, uint8_t* scratch) {
  if (args.form == InputForm::kFloat32) return MultiplyFloating(args, group_begin, group_end);
  if (args.form == InputForm::kBFloat16Pair) return MultiplyBFloat16(args, group_begin, group_end);
  const int64_t in_tiles = args.n / kLeastTileTokens * kLeastTileTokens;
  if (in_tiles > 0) MultiplyPanels(args, group_begin, group_end, scratch);
  if (in_tiles < args.n) MultiplyQuantized(args, group_begin, group_end, in_tiles);
}

int64_t MultiplyScratch(const ProductArgs& args) {
  return args.n < kLeastTileTokens || args.form != InputForm::kInt8 ? 0 : PanelBytes(args.cols);
}

#else

void Multiply(const ProductArgs& args, int64_t group_begin, int64_t group_end,
              uint8_t* /*scratch*/) {
  if (args.form == InputForm::kInt8) return MultiplyQuantized(args, group_begin, group_end, 0);
  MultiplyFloating(args, group_begin, group_end);
}

int64_t MultiplyScratch(const ProductArgs& /*args*/) { return 0; }

#endif

}  // namespace tessera::kernels::cpu::TESSERA_ISA
