// The judge: every operation once more, naive and accumulating in double. Tests and the
// loader's checks compare against it; nothing serves with it.
#ifndef TESSERA_KERNELS_REFERENCE_H_
#define TESSERA_KERNELS_REFERENCE_H_

#include <cstdint>
#include <vector>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace tessera::kernels::reference {

// Elements [begin, end) of one row, exactly as DType's grammar in tensor.h says. `row` points at
// the row's first byte. out: (end - begin).
void DequantizeRow(DType dtype, const void* row, int64_t begin, int64_t end, float* out);

// Shapes and meaning as the operations of Device.
std::vector<double> MatMul(const MatrixView& w, const float* x, const float* bias, int64_t n);
std::vector<double> RmsNorm(const float* x, const float* weight, double eps, int64_t rows,
                            int64_t cols);
// x + scale * RmsNorm(y).
std::vector<double> AddNormed(const float* y, double scale, const float* weight, double eps,
                              int64_t rows, int64_t cols, const float* x);
// Per row, over columns [begin, end).
std::vector<double> SumSquares(const float* x, int64_t rows, int64_t cols, int64_t begin,
                               int64_t end);
std::vector<double> NormalizeBySums(const double* sums, int64_t width, const float* weight,
                                    double eps, int64_t rows, int64_t cols, const float* x);
// Row t of the table for token t. x: (n, heads, head_dim).
std::vector<double> Rope(const RopeTable& table, int64_t n, int heads, int head_dim,
                         const float* x);
// For all of the step's tokens; the cache is in host memory.
std::vector<double> Attention(const float* q, const StepView& step, const AttentionShape& shape,
                              const KvCacheView& cache);
std::vector<double> SiluMul(const float* gate, const float* up, int64_t count);

}  // namespace tessera::kernels::reference

#endif  // TESSERA_KERNELS_REFERENCE_H_
