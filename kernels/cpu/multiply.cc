// Which kernel multiplies a matrix of which type.
#include "kernels/cpu/isa_ops.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

InputForm InputFormOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return InputForm::kFloat32;
    default:
      return InputForm::kInt19;
  }
}

void Multiply(const ProductArgs& args, int64_t group_begin, int64_t group_end) {
  if (args.form >= InputForm::kInt8) return MultiplyQuantized(args, group_begin, group_end);
  MultiplyFloating(args, group_begin, group_end);
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
