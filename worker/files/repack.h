// From a row as it lies in a file to the same row as it is computed with.
//
// 32-wide types keep their bytes. A 256-wide super-block falls into 8 blocks of 32 that each carry
// the file's own factors, so nothing is rounded. In the file, little endian:
//
//   Q4_K := f16 d, f16 dmin, 12 bytes s, 128 bytes q                                   144 bytes
//   Q5_K := f16 d, f16 dmin, 12 bytes s, 32 bytes h, 128 bytes q                       176 bytes
//   Q6_K := 128 bytes ql, 64 bytes qh, int8 sc[16], f16 d                              210 bytes
//
//   s: 8 scales and 8 minima of 6 bits. Block i < 4: scale = s[i] & 63, minimum = s[i+4] & 63;
//      i >= 4: scale = (s[i+4] & 15) | (s[i-4] >> 6) << 4, minimum = (s[i+4] >> 4) | (s[i] >> 6) << 4
//   q: element l of block i in byte 32 * (i / 2) + l, its low half for even i, high half for odd
//   h: high bit of element l of block i = bit i of byte l
//   ql: block i = 4 * half + k, element l: byte 64 * half + 32 * (k % 2) + l, high half for k >= 2
//   qh: two high bits of it: bits 2k.. of byte 32 * half + l
//   sc: of elements 16j .. 16j + 15 of the super-block: sc[j]
//
// (After ggml's block definitions; the 32-wide forms are kernels/tensor.h's.)
#ifndef TESSERA_WORKER_FILES_REPACK_H_
#define TESSERA_WORKER_FILES_REPACK_H_

#include <cstdint>

#include "kernels/tensor.h"
#include "tessera/v1/model.pb.h"

namespace tessera::worker {

// Elements [begin, end) of a row stored as `type`, in RepackedType(type), to `out`. Both ends are
// multiples of that type's block. row: the row's first byte.
void RepackRow(v1::DataType type, const uint8_t* row, int64_t begin, int64_t end, uint8_t* out);

// The same elements as float32; any begin and end within the row.
void DequantizeRow(v1::DataType type, const uint8_t* row, int64_t begin, int64_t end, float* out);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_REPACK_H_
