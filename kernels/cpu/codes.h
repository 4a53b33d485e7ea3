// Weight codes and their integer products with quantized inputs, kLanes rows at a time, over simd.h's
// vectors. Where the same operations are spelled per instruction set:
//
//   Codes                         kLanes rows × the 4 columns of a quad, bytes
//   LoadCodes(p)                  that many bytes of a plane of packed_weights.h
//   Nibbles<kHigh>(c)             the low or high halves of the bytes
//   WithBits<kShift, kMask>(n, c) n | (c << kShift & kMask); kShift < 0 shifts right
//   PrepareBytes(c)               codes of 8 bits as DotQuads takes them
//   Ints                          kLanes int32
//   DotQuads<kQuads, kBits>(codes, x, start)
//       sum over kQuads quads of code * x, and *start, which corrects unsigned codes of symmetric
//       types (matmul_input.h), for each row. Null: nothing to add. x: kQuads * 4 int8.
//       kBits: what the codes have at most. The result is exact.
//   ToFloats(a)
//   LoadBytes(p) LoadSignedBytes(p)  kLanes bytes as floats
//   StoreInt8(p, v)                  whole numbers in [-128, 127]
#ifndef TESSERA_KERNELS_CPU_CODES_H_
#define TESSERA_KERNELS_CPU_CODES_H_

#include "kernels/cpu/simd.h"

#if defined(TESSERA_SIMD_AVX512)
#include "kernels/cpu/codes_avx512.h"
#elif defined(TESSERA_SIMD_AVX2)
#include "kernels/cpu/codes_avx2.h"
#else
#include "kernels/cpu/codes_scalar.h"
#endif

#endif  // TESSERA_KERNELS_CPU_CODES_H_
