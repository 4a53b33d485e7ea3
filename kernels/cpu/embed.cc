#include "kernels/cpu/blocks.h"
#include "kernels/cpu/isa_ops.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

void Embed(const MatrixView& table, const int32_t* ids, int64_t first_row, int64_t n, float* out) {
  const auto* rows = static_cast<const uint8_t*>(table.data);
  const size_t row_bytes = RowBytes(table.dtype, table.cols);
  for (int64_t t = 0; t < n; ++t) {
    float* result = out + t * table.cols;
    const int64_t row = ids[t] - first_row;
    if (row >= 0 && row < table.rows) {
      VisitDType(table.dtype, [&]<DType kType>() {
        DecodeRow<kType>(rows + row * row_bytes, table.cols, result);
      });
    } else {
      __builtin_memset(result, 0, table.cols * sizeof(float));
    }
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
