// The CUDA kernels as plain C++ functions: what the CUDA device (cuda_device.h) calls, one launcher
// per operation of device.h. The same declarations serve the simulated build.
//
// Every pointer is device memory unless it says host; arrays are row-major (rows, cols); BFloat16
// pointers to rows of `cols` elements are aligned to 2 bytes at least, and rows whose cols are a
// multiple of 8 and which start at 16 bytes are read fast. Outputs do not overlap inputs except
// where "in place" is said.
//
// A launcher puts its work on `stream` and returns at once: 0, or the cudaError_t of the launch (and
// cudaErrorInvalidValue = 1 for a shape it has no kernel for, which the header says). It allocates
// nothing, reads no environment, and touches no host memory after it returns, so it can be captured
// in a graph. Threads: any, one per stream.
//
// Determinism: an output row's bits depend on that row's inputs and the shape alone, not on n, and
// the launchers of one operation agree: SmallMatMul and TiledMatMul give the same bits, and so do
// the decode and the prefill form of attention.
#ifndef TESSERA_KERNELS_CUDA_OPS_H_
#define TESSERA_KERNELS_CUDA_OPS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/sampling.h"
#include "kernels/tensor.h"

struct CUstream_st;

namespace tessera::kernels::cuda {

using Stream = CUstream_st*;  // cudaStream_t

struct BFloat16 {
  uint16_t bits;
};

inline constexpr int kLaunched = 0;
inline constexpr int kNoSuchKernel = 1;  // cudaErrorInvalidValue

// -- the step's tokens --------------------------------------------------------------------------

// Attention of one token over one chunk of kAttentionChunk positions.
struct DecodeItem {
  int32_t token;
  int32_t chunk;  // positions [chunk, chunk + 1) * kAttentionChunk
};

// Attention of a run of one sequence's tokens, kPrefillRows / (query heads per KV head) at a time.
struct PrefillItem {
  int32_t first_token;  // of the run, in the step
  int32_t num_tokens;   // of the run
  int32_t first_row;    // a row is (token, query head of the group), token-major: the tile's first
};

inline constexpr int kAttentionChunk = 256;  // positions; fixes where sums are cut
inline constexpr int kPrefillRows = 64;

// What the device uploads per step; step_arrays.h makes it from a StepView. All in device memory,
// at addresses that graphs may keep: the *_capacity are what the arrays hold room for.
struct StepArrays {
  int64_t n_capacity = 0;
  const int32_t* ids = nullptr;        // (n_capacity); null behind the first stage
  const int32_t* positions = nullptr;  // (n_capacity); -1 for a row beyond the step's tokens, which
                                       // stores nothing and attends to nothing
  const int32_t* sequences = nullptr;  // (n_capacity) into table_begins
  int64_t sequences_capacity = 0;
  const int32_t* table_begins = nullptr;  // (sequences_capacity): where its blocks begin in `tables`
  int64_t tables_capacity = 0;
  const int32_t* tables = nullptr;  // (tables_capacity) KV blocks of all sequences
  const float* rope_cos = nullptr;  // (n_capacity, rope_dim / 2)
  const float* rope_sin = nullptr;
  int rope_dim = 0;
  bool rope_interleaved = false;

  // Who attends how. Tokens of long runs are prefill items; the others' chunks are decode items.
  int64_t decode_capacity = 0;
  const DecodeItem* decode_items = nullptr;    // (decode_capacity), by token, chunks rising
  const int32_t* decode_begins = nullptr;      // (n_capacity + 1): token t's decode items are
                                               // [begins[t], begins[t + 1]); none for prefill tokens
  const int32_t* num_decode_items = nullptr;   // (1): so that a graph's grid can stay
  int64_t prefill_capacity = 0;
  const PrefillItem* prefill_items = nullptr;  // (prefill_capacity)
};

// -- elementwise, norms -------------------------------------------------------------------------

// out[t] = scale * row ids[t] - first_row of `table`, or zeros where that is not in the table.
// table: as packed_weights.h lays it out, any type; out: (n, table.cols).
[[nodiscard]] int LaunchEmbed(const WeightMatrix& table, int64_t first_row, float scale,
                              const StepArrays& step, int64_t n, BFloat16* out, Stream stream);

// As Device::RmsNorm; out may be x. weight: (cols) float32.
[[nodiscard]] int LaunchRmsNorm(const BFloat16* x, const float* weight, float eps, int64_t rows,
                                int64_t cols, BFloat16* out, Stream stream);
// x += scale * y rounded to bfloat16, then RmsNorm(x) into out. Three different places.
[[nodiscard]] int LaunchAddRmsNorm(const BFloat16* y, float scale, const float* weight, float eps,
                                   int64_t rows, int64_t cols, BFloat16* x, BFloat16* out,
                                   Stream stream);
// x += scale * y. (count)
[[nodiscard]] int LaunchAdd(const BFloat16* y, float scale, int64_t count, BFloat16* x,
                            Stream stream);
// x += scale * RmsNorm(y). weight: (cols) float32; two different places.
[[nodiscard]] int LaunchAddNormed(const BFloat16* y, float scale, const float* weight, float eps,
                                  int64_t rows, int64_t cols, BFloat16* x, Stream stream);
// As Device::SumSquares and Device::NormalizeBySums. sums: (rows).
[[nodiscard]] int LaunchSumSquares(const BFloat16* x, int64_t rows, int64_t cols, int64_t begin,
                                   int64_t end, float* sums, Stream stream);
[[nodiscard]] int LaunchNormalizeBySums(const float* sums, int64_t width, const float* weight,
                                        float eps, int64_t rows, int64_t cols, BFloat16* x,
                                        Stream stream);
// out = silu(gate) * up. (count); out may be gate.
[[nodiscard]] int LaunchSiluMul(const BFloat16* gate, const BFloat16* up, int64_t count,
                                BFloat16* out, Stream stream);
// out[i] = x[rows[i]]. rows: (count) DEVICE memory; x: (x_rows, cols).
[[nodiscard]] int LaunchGatherRows(const BFloat16* x, int64_t x_rows, const int64_t* rows,
                                   int64_t count, int64_t cols, BFloat16* out, Stream stream);
// Activations from and to float32, both (count) in device memory.
[[nodiscard]] int LaunchToFloat(const BFloat16* from, int64_t count, float* to, Stream stream);
[[nodiscard]] int LaunchFromFloat(const float* from, int64_t count, BFloat16* to, Stream stream);

// -- attention ----------------------------------------------------------------------------------

struct KvCache {
  BFloat16* keys = nullptr;    // (num_blocks, num_kv_heads, block_tokens, head_dim)
  BFloat16* values = nullptr;  // alike
  int64_t num_blocks = 0;
  int num_kv_heads = 0;
  int block_tokens = 16;
  int head_dim = 0;
};

struct AttentionHeads {
  int num_q_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;  // at most kMaxHeadDim, even; a multiple of 8 is fast
  // (num_kv_heads + 1), device: KV head k is read by query heads [begins[k], begins[k + 1]).
  const int32_t* group_begins = nullptr;
  int largest_group = 0;  // max of begins[k + 1] - begins[k]
  float scale = 0;
  int sliding_window = 0;  // 0 = all
  bool rotary = true;      // RotateAndStore turns queries and keys
};
inline constexpr int kMaxHeadDim = 256;

// q_norm, k_norm: (head_dim) or null. In place on q, k: see Device::RotateAndStore.
struct HeadNorms {
  const float* q_norm = nullptr;
  const float* k_norm = nullptr;
  float eps = 0;
};
[[nodiscard]] int LaunchRotateAndStore(const AttentionHeads& heads, const HeadNorms& norms,
                                       const StepArrays& step, const KvCache& cache, int64_t n,
                                       BFloat16* q, BFloat16* k, const BFloat16* v, Stream stream);

// Bytes of scratch for LaunchDecodeAttention with room for `decode_items` items.
size_t DecodeScratchBytes(const AttentionHeads& heads, int64_t decode_items);
// The step's decode items, then the sum of each token's chunks. Rows of tokens without decode items
// are not written, except that rows with position -1 become zeros. grid_items: how many items run
// side by side (the grid; the kernel loops until *num_decode_items).
// q, out: (n, num_q_heads, head_dim). scratch: aligned to 16.
[[nodiscard]] int LaunchDecodeAttention(const BFloat16* q, const AttentionHeads& heads,
                                        const StepArrays& step, const KvCache& cache, int64_t n,
                                        int64_t grid_items, std::byte* scratch,
                                        size_t scratch_bytes, BFloat16* out, Stream stream);
// The step's first num_prefill_items prefill items; writes the rows of their tokens only.
[[nodiscard]] int LaunchPrefillAttention(const BFloat16* q, const AttentionHeads& heads,
                                         const StepArrays& step, const KvCache& cache, int64_t n,
                                         int64_t num_prefill_items, BFloat16* out, Stream stream);

// Block `source` over block `destination`, keys and values.
[[nodiscard]] int LaunchCopyKvBlock(const KvCache& cache, int64_t source, int64_t destination,
                                    Stream stream);

// -- products -----------------------------------------------------------------------------------

// One of several products that share their input. w: as packed_weights.h lays it out.
struct MatMulProduct {
  WeightMatrix w;               // (w.rows, w.cols)
  const float* bias = nullptr;  // (w.rows) or null
  BFloat16* out = nullptr;      // (n, w.rows)
};
inline constexpr int kMaxProducts = 4;
inline constexpr int64_t kSmallMatMulRows = 64;

// out = x · wᵀ + bias for each product. x: (n, cols of every w), n <= kSmallMatMulRows, at most
// kMaxProducts products. Bound by reading the weights once (up to about 16 rows).
[[nodiscard]] int LaunchSmallMatMul(const MatMulProduct* products, int num_products,
                                    const BFloat16* x, int64_t n, Stream stream);
// As LaunchSmallMatMul for any n, on the tensor cores, without cuBLASLt: same bits.
[[nodiscard]] int LaunchTiledMatMul(const MatMulProduct* products, int num_products,
                                    const BFloat16* x, int64_t n, Stream stream);
// out = x · wᵀ in float32, any n. out: (n, w.rows).
[[nodiscard]] int LaunchLogits(const WeightMatrix& w, const BFloat16* x, int64_t n, float* out,
                               Stream stream);
// Weights rounded to bfloat16 for cuBLASLt: out is (w.rows, BFloat16Pitch(w.cols)), zeros behind
// w.cols. A kBF16 matrix is in that form already.
[[nodiscard]] int LaunchDequantize(const WeightMatrix& w, BFloat16* out, Stream stream);
// x ≈ scales[row] · out as E4M3, for products of 8-bit floats. x: (n, cols), from 16 bytes on, cols
// a multiple of 8; out: (n, cols); scales: (n).
[[nodiscard]] int LaunchQuantizeRows(const BFloat16* x, int64_t n, int64_t cols, uint8_t* out,
                                     float* scales, Stream stream);
inline constexpr int64_t BFloat16Pitch(int64_t cols) { return (cols + 63) / 64 * 64; }

// -- sampling -----------------------------------------------------------------------------------

inline constexpr int kMaxCandidates = 256;  // the most listed of a row

// The rows of kernels/sampling.h. logits: (count, vocab), those of tokens first_id ...; rows:
// (count); sampled: (count), of a row that is not finite the ids alone, kNotFinite; candidates:
// (count, kMaxCandidates), best first (ties by lowest id), only the first rows[r].num_candidates of
// a row are written; may be null when no row asks for any.
[[nodiscard]] int LaunchSampleRows(const float* logits, int64_t count, int64_t vocab,
                                   int32_t first_id, const SampleRow* rows, SampledRow* sampled,
                                   Candidate* candidates, Stream stream);

// What `ranks` ranks sampled from their parts of the same rows, by earlier SampleRows: (ranks,
// rows).
struct RankSamples {
  const SampledRow* sampled = nullptr;
  int64_t rows = 0;
  int ranks = 1;
  int64_t pitch = 0;  // rows from one rank's first to the next one's
};
// ids[t] = the id sampled from row -1 - ids[t] where ids[t] < 0; in place. Among several ranks' it
// is that of the highest score, among equals the lowest id; -1 where one's row was not finite
// (Embed makes zeros of it). ids: (n), none below -samples.rows.
[[nodiscard]] int LaunchFillPlaceholders(const RankSamples& samples, int64_t n, int32_t* ids,
                                         Stream stream);

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_OPS_H_
