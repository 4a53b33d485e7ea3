// The kernels of the instruction set being compiled; contracts are in ops.h and kernels/device.h.
#ifndef TESSERA_KERNELS_CPU_ISA_OPS_H_
#define TESSERA_KERNELS_CPU_ISA_OPS_H_

#include <cstdint>

#include "kernels/cpu/ops.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

void RmsNorm(const float* x, const float* weight, float eps, int64_t rows, int64_t cols,
             float* out);
void AddNormed(const double* y, double scale, const float* weight, float eps, int64_t rows,
               int64_t cols, float* x);
void SumSquares(const float* x, int64_t rows, int64_t cols, int64_t begin, int64_t end,
                double* sums);
void NormalizeBySums(const double* sums, int64_t width, const float* weight, float eps,
                     int64_t rows, int64_t cols, float* x);
InputForm InputFormOf(DType dtype);
void PrepareInput(InputForm form, const float* x, int64_t cols, int64_t n, const InputPart& part,
                  uint8_t* prepared);
void Multiply(const ProductArgs& args, int64_t group_begin, int64_t group_end, uint8_t* scratch);
int64_t MultiplyScratch(const ProductArgs& args);
// Only the tokens from first_token on.
void MultiplyQuantized(const ProductArgs& args, int64_t group_begin, int64_t group_end,
                       int64_t first_token);
void MultiplyFloating(const ProductArgs& args, int64_t group_begin, int64_t group_end);
// With AMX only. The first: quantized weights and whole fours of tokens; scratch: PanelBytes.
void MultiplyPanels(const ProductArgs& args, int64_t group_begin, int64_t group_end,
                    uint8_t* scratch);
int64_t PanelBytes(int64_t cols);
void MultiplyBFloat16(const ProductArgs& args, int64_t group_begin, int64_t group_end);
void Rope(const RopeTable& table, int64_t token, int64_t n, int heads, int head_dim, float* x);
void Attention(const AttentionArgs& args, const AttentionTile& tile, int chunk_begin, int chunk_end,
               float* state, float* scratch);
void AttentionMerge(const AttentionArgs& args, const AttentionTile& tile, const float* later,
                    float* state);
void AttentionFinish(const AttentionArgs& args, const AttentionTile& tile, const float* state);
int64_t AttentionState(int rows, int head_dim);
int64_t AttentionScratch(int head_dim);
void SiluMul(const float* gate, const float* up, int64_t count, float* out);
void Add(const double* y, double scale, int64_t count, float* x);

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_ISA_OPS_H_
