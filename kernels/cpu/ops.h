// One instruction set's kernels, without threads: the device (cpu_device.h) splits the work and
// calls these on parts of it.
//
// An op's .cc file is compiled once per instruction set that changes it, each time into its own
// namespace (TESSERA_ISA, set by CMake together with the -m flags), and ops_table.cc collects a set's
// own and those it takes from lesser ones (isa_ops.h). Two rules
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

#include "kernels/cpu/matmul_input.h"
#include "kernels/tensor.h"
#include "kernels/views.h"

namespace tessera::kernels::cpu {

// A product of a packed matrix (packed_weights.h) and a prepared input (matmul_input.h).
struct ProductArgs {
  const uint8_t* w = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  InputForm form = InputForm::kFloat32;  // one of those that suit the type: OpsTable::input_form
  const uint8_t* input = nullptr;        // aligned to 64 bytes
  const float* bias = nullptr;           // (rows) or null
  int64_t n = 0;
  float* out = nullptr;  // (n, rows)
  // Or, instead: float32 sums of so many blocks of columns, added up in float64, without a bias.
  double* partials = nullptr;  // (n, rows)
  int64_t segment_blocks = 0;
};

// Tokens, both ends whole tiles or the end of all, and blocks of columns.
struct InputPart {
  int64_t token_begin = 0;
  int64_t token_end = 0;
  int64_t block_begin = 0;
  int64_t block_end = 0;
};

struct AttentionArgs {
  const float* q = nullptr;  // (n, num_q_heads, head_dim)
  AttentionShape shape;
  KvCacheView cache;     // kF32 in kKeysByDim or kBF16 in kPairs
  float* out = nullptr;  // (n, num_q_heads, head_dim)
};

// Rows of attention that share their keys and values: a few consecutive tokens of one sequence times
// the query heads of one KV head. Row t * heads + h is token t's query head head_begin + h.
struct AttentionTile {
  int64_t first_token = 0;  // in the step
  int num_tokens = 0;
  int start_position = 0;  // of the first token
  const int32_t* block_table = nullptr;
  int head_begin = 0;
  int head_end = 0;

  int heads() const { return head_end - head_begin; }
  int rows() const { return num_tokens * heads(); }
};
// Rows of a tile at most, and query heads.
inline constexpr int kAttentionTileRows = 16;
// Positions are attended to in chunks that begin at multiples of this, whatever the tile.
inline constexpr int kAttentionChunk = 512;

struct OpsTable {
  const char* name;

  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t rows, int64_t cols,
                   float* out);
  // x += scale * RmsNorm(y), in double and rounded once.
  void (*add_normed)(const double* y, double scale, const float* weight, float eps, int64_t rows,
                     int64_t cols, float* x);
  // Row by row over columns [begin, end), in double: squares of float32 numbers are exact in it.
  void (*sum_squares)(const float* x, int64_t rows, int64_t cols, int64_t begin, int64_t end,
                      double* sums);
  void (*normalize_by_sums)(const double* sums, int64_t width, const float* weight, float eps,
                            int64_t rows, int64_t cols, float* x);

  // The form that inputs of products with weights of a type take.
  InputForm (*input_form)(DType dtype);
  // A part of an input of n tokens. x: (n, cols); prepared: InputBytes, aligned to 64 bytes.
  void (*prepare_input)(InputForm form, const float* x, int64_t cols, int64_t n,
                        const InputPart& part, uint8_t* prepared);
  // Outputs of the row groups [group_begin, group_end) for every token. scratch: multiply_scratch
  // bytes, aligned to 64.
  void (*multiply)(const ProductArgs& args, int64_t group_begin, int64_t group_end,
                   uint8_t* scratch);
  int64_t (*multiply_scratch)(const ProductArgs& args);

  // Tokens [token, token + n) of the step, whose rows of the table those are; x: the first of them.
  void (*rope)(const RopeTable& table, int64_t token, int64_t n, int heads, int head_dim, float* x);

  // What chunks [chunk_begin, chunk_end) of positions say, one at least, into `state`, of twice
  // attention_state floats for the tile's rows: the second half is used with more than one chunk.
  // scratch: attention_scratch floats. Both 64-byte aligned.
  void (*attention)(const AttentionArgs& args, const AttentionTile& tile, int chunk_begin,
                    int chunk_end, float* state, float* scratch);
  // What `later` says of later chunks, added to `state`. Chunk by chunk in order this gives the same
  // bits as one call over all of them.
  void (*attention_merge)(const AttentionArgs& args, const AttentionTile& tile, const float* later,
                          float* state);
  // The tile's rows of `out` from the state of all its chunks.
  void (*attention_finish)(const AttentionArgs& args, const AttentionTile& tile,
                           const float* state);
  int64_t (*attention_state)(int rows, int head_dim);
  int64_t (*attention_scratch)(int head_dim);

  void (*silu_mul)(const float* gate, const float* up, int64_t count, float* out);
  // x += scale * y, summed in double and rounded once.
  void (*add)(const double* y, double scale, int64_t count, float* x);
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
namespace avx512vnni {
extern const OpsTable kOps;
}
namespace avx512bf16 {
extern const OpsTable kOps;
}
namespace amx {
extern const OpsTable kOps;
}

}  // namespace tessera::kernels::cpu

#endif  // TESSERA_KERNELS_CPU_OPS_H_
