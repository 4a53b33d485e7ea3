// Which kernel multiplies a matrix of which type.
#include "kernels/cpu/isa_ops.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

InputForm InputFormOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
      return InputForm::kFloat32;
    case DType::kBF16:
#if defined(TESSERA_SIMD_BF16)
      return InputForm::kBFloat16;
#else
      return InputForm::kFloat32;
#endif
    default:
      return InputForm::kInt8;
  }
}

void Multiply(const ProductArgs& args, int64_t group_begin, int64_t group_end) {
  if (args.form >= InputForm::kInt8) return MultiplyQuantized(args, group_begin, group_end);
  MultiplyFloating(args, group_begin, group_end);
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
