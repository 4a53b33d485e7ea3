// The kernels of the instruction set being compiled; contracts are in ops.h and kernels/device.h.
//
// A set compiles only the files that its own instructions change and takes the rest from a lesser
// set: TESSERA_PLAIN names the set whose kernels without integer products and bfloat16 it has,
// TESSERA_INTEGERS and TESSERA_FLOATS that of its integer and its other products and attention
// (CMakeLists.txt). Where none is named they are its own.
#ifndef TESSERA_KERNELS_CPU_ISA_OPS_H_
#define TESSERA_KERNELS_CPU_ISA_OPS_H_

#include <cstdint>

#include "kernels/cpu/ops.h"

#if !defined(TESSERA_PLAIN)
#define TESSERA_PLAIN TESSERA_ISA
#endif
#if !defined(TESSERA_INTEGERS)
#define TESSERA_INTEGERS TESSERA_ISA
#endif
#if !defined(TESSERA_FLOATS)
#define TESSERA_FLOATS TESSERA_ISA
#endif

namespace tessera::kernels::cpu::TESSERA_PLAIN {

void RmsNorm(const float* x, const float* weight, float eps, int64_t rows, int64_t cols,
             float* out);
void AddNormed(const double* y, double scale, const float* weight, float eps, int64_t rows,
               int64_t cols, float* x);
void SumSquares(const float* x, int64_t rows, int64_t cols, int64_t begin, int64_t end,
                double* sums);
void NormalizeBySums(const double* sums, int64_t width, const float* weight, float eps,
                     int64_t rows, int64_t cols, float* x);
void PrepareInput(InputForm form, const float* x, int64_t cols, int64_t n, const InputPart& part,
                  uint8_t* prepared);
void Rope(const RopeTable& table, int64_t token, int64_t n, int heads, int head_dim, float* x);
void SiluMul(const float* gate, const float* up, int64_t count, float* out);
void Add(const double* y, double scale, int64_t count, float* x);

}  // namespace tessera::kernels::cpu::TESSERA_PLAIN

namespace tessera::kernels::cpu::TESSERA_INTEGERS {

// Only the tokens from first_token on.
void MultiplyQuantized(const ProductArgs& args, int64_t group_begin, int64_t group_end,
                       int64_t first_token);

}  // namespace tessera::kernels::cpu::TESSERA_INTEGERS

namespace tessera::kernels::cpu::TESSERA_FLOATS {

void MultiplyFloating(const ProductArgs& args, int64_t group_begin, int64_t group_end);
void Attention(const AttentionArgs& args, const AttentionTile& tile, int chunk_begin, int chunk_end,
               float* state, float* scratch);
void AttentionMerge(const AttentionArgs& args, const AttentionTile& tile, const float* later,
                    float* state);
void AttentionFinish(const AttentionArgs& args, const AttentionTile& tile, const float* state);
int64_t AttentionState(int rows, int head_dim);
int64_t AttentionScratch(int head_dim);

}  // namespace tessera::kernels::cpu::TESSERA_FLOATS

namespace tessera::kernels::cpu::TESSERA_ISA {

using namespace TESSERA_PLAIN;     // NOLINT(google-build-using-namespace): declarations alone
using namespace TESSERA_INTEGERS;  // NOLINT(google-build-using-namespace)
using namespace TESSERA_FLOATS;    // NOLINT(google-build-using-namespace)

InputForm InputFormOf(DType dtype);
void Multiply(const ProductArgs& args, int64_t group_begin, int64_t group_end, uint8_t* scratch);
int64_t MultiplyScratch(const ProductArgs& args);
// With AMX only. The first: quantized weights and whole fours of tokens; scratch: PanelBytes.
void MultiplyPanels(const ProductArgs& args, int64_t group_begin, int64_t group_end,
                    uint8_t* scratch);
int64_t PanelBytes(int64_t cols);
void MultiplyBFloat16(const ProductArgs& args, int64_t group_begin, int64_t group_end);

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_ISA_OPS_H_
