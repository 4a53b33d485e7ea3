// One instruction set's kernels, without threads: the device (cpu_device.h) splits the work and
// calls these on parts of it.
//
// Every op's .cc file is compiled once per instruction set, each time into its own namespace
// (TESSERA_ISA, set by CMake together with the -m flags), and ops_table.cc collects them. Two rules
// keep a program able to start on a machine that lacks the better sets:
//   - such a file defines nothing outside its namespace, and uses no inline function or template of
//     the standard library, whose one linked copy might then hold instructions the machine lacks;
//   - nothing in it runs before the device has asked the CPU (cpu_device.cc).
//
// All functions are pure but for their outputs and scratch, and safe on disjoint parts in parallel.
#ifndef TESSERA_KERNELS_CPU_OPS_H_
#define TESSERA_KERNELS_CPU_OPS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/tensor.h"
#include "kernels/views.h"

namespace tessera::kernels::cpu {

// Where each of the step's tokens stands. Arrays of n.
struct TokenPlacement {
  const int32_t* positions = nullptr;            // position in its sequence
  const int32_t* const* block_tables = nullptr;  // per token: its sequence's KV blocks, in order
};

struct MatMulArgs {
  MatrixView w;                 // (rows, cols)
  const float* x = nullptr;     // (n, cols)
  const float* bias = nullptr;  // (rows) or null
  int64_t n = 0;
  float* out = nullptr;  // (n, rows)
};

struct AttentionArgs {
  const float* q = nullptr;  // (n, num_q_heads, head_dim)
  TokenPlacement where;
  AttentionShape shape;
  KvCacheView cache;
  float* out = nullptr;  // (n, num_q_heads, head_dim)
};

struct OpsTable {
  const char* name;

  // As Device::Embed. Rows are equal to reference::DequantizeRow, bit for bit.
  void (*embed)(const MatrixView& table, const int32_t* ids, int64_t first_row, int64_t n,
                float* out);

  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t rows, int64_t cols,
                   float* out);

  // Outputs [row_begin, row_end) of every token. scratch: matmul_scratch floats, 64-byte aligned.
  void (*matmul)(const MatMulArgs& args, int64_t row_begin, int64_t row_end, float* scratch);
  int64_t (*matmul_scratch)(const MatMulArgs& args);

  // Tokens [token, token + n) of the step, whose rows of the table those are; x: the first of them.
  void (*rope)(const RopeTable& table, int64_t token, int64_t n, int heads, int head_dim, float* x);

  // Query heads [head_begin, head_end) of one token; all of them read the same KV head.
  // scratch: attention_scratch floats for that many heads and positions, 64-byte aligned.
  void (*attention)(const AttentionArgs& args, int64_t token, int head_begin, int head_end,
                    float* scratch);
  int64_t (*attention_scratch)(int heads, int64_t positions);

  void (*silu_mul)(const float* gate, const float* up, int64_t count, float* out);
  void (*add)(const float* y, int64_t count, float* x);
};

namespace scalar {
extern const OpsTable kOps;
}
namespace avx2 {
extern const OpsTable kOps;
}
namespace avx512 {
extern const OpsTable kOps;
}

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_OPS_H_
