// The operations of a device with everything in host vectors, so that one suite runs over every
// device: uploads, calls, downloads. Inputs are rounded to the device's activation type on the way,
// so compare with a reference of Rounded(input).
//
//   HostOps ops(MakeDevice("cpu", {}).value());
//   std::vector<float> out = ops.MatMul(w, x, bias, n);
#ifndef TESSERA_TESTS_KERNELS_HOST_OPS_H_
#define TESSERA_TESTS_KERNELS_HOST_OPS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace tessera::kernels {

// A step that owns what its view borrows: tokens of one or more sequences.
class OwnedStep {
 public:
  // Tokens at start_position .. of the sequence whose KV blocks those are; ids follow in order.
  void AddSequence(int32_t start_position, std::vector<int32_t> ids, std::vector<int32_t> blocks);
  // cos, sin: (n, rope_dim / 2).
  void SetRope(int rope_dim, bool interleaved, std::vector<float> cos, std::vector<float> sin);
  // Tokens and sequences as added; no longer valid when more are added.
  StepView view() const;
  int64_t n() const { return static_cast<int64_t>(ids_.size()); }

 private:
  std::vector<int32_t> ids_;
  std::vector<std::vector<int32_t>> blocks_;
  mutable std::vector<SequenceSpan> sequences_;
  int rope_dim_ = 0;
  bool interleaved_ = false;
  std::vector<float> cos_, sin_;
};

// A cache in device memory and the same numbers in host memory.
struct HostCache {
  KvCacheView view;  // keys and values are host memory: float32, or bfloat16 as 16 bits
  std::vector<std::byte> keys, values;
};

class HostOps {
 public:
  explicit HostOps(std::unique_ptr<Device> device) : device_(std::move(device)) {}

  Device& device() { return *device_; }
  bool exact() const { return device_->ActivationType() == DType::kF32; }
  // As the device's activations hold them.
  std::vector<float> Rounded(const std::vector<float>& x) const;

  // Shapes as those of Device. w.data: row-major host memory.
  std::vector<float> MatMul(const MatrixView& w, const std::vector<float>& x,
                            const std::vector<float>& bias, int64_t n);
  // All of them over one input, in one call.
  std::vector<std::vector<float>> MatMuls(const std::vector<MatrixView>& w,
                                          const std::vector<float>& x, int64_t n);
  // Without the rounding to the activation type on cpu.
  std::vector<double> MatMulPartial(const MatrixView& w, const std::vector<float>& x, int64_t n,
                                    int segment);
  std::vector<float> Logits(const MatrixView& w, const std::vector<float>& x, int64_t n);
  std::vector<float> Embed(const MatrixView& table, const std::vector<int32_t>& ids,
                           int64_t first_row, float scale = 1);
  std::vector<float> RmsNorm(const std::vector<float>& x, const std::vector<float>& weight,
                             float eps, int64_t rows, int64_t cols, bool in_place = false);
  // The new x, and the normed one.
  std::pair<std::vector<float>, std::vector<float>> AddRmsNorm(const std::vector<float>& y,
                                                               const std::vector<float>& weight,
                                                               float eps, int64_t rows,
                                                               int64_t cols,
                                                               const std::vector<float>& x,
                                                               float scale = 1);
  std::vector<float> AddNormed(const std::vector<float>& y, float scale,
                               const std::vector<float>& weight, float eps, int64_t rows,
                               int64_t cols, const std::vector<float>& x);
  // RMSNorm of rows whose columns lie on several ranks, as each of them computes it: columns [from,
  // to) of `parts` for each rank, and which of them it sums. The new parts, side by side.
  struct ColumnPart {
    int64_t from = 0, to = 0;
    int64_t sum_from = 0, sum_to = 0;
  };
  std::vector<std::vector<float>> RmsNormInParts(const std::vector<float>& x,
                                                 const std::vector<float>& weight, float eps,
                                                 int64_t rows, int64_t cols,
                                                 const std::vector<ColumnPart>& parts);
  std::vector<float> SiluMul(const std::vector<float>& gate, const std::vector<float>& up,
                             bool in_place = false);
  std::vector<float> Add(const std::vector<float>& y, const std::vector<float>& x,
                         float scale = 1);
  std::vector<float> GatherRows(const std::vector<float>& x, const std::vector<int64_t>& rows,
                                int64_t cols);

  // A cache of the device's KvType full of random numbers.
  HostCache RandomCache(int num_blocks, int num_kv_heads, int block_tokens, int head_dim,
                        uint32_t seed) const;

  struct Turned {
    std::vector<float> q, k;
    HostCache cache;
  };
  Turned RotateAndStore(const OwnedStep& step, AttentionShape shape, const HostCache& cache,
                        const std::vector<float>& q, const std::vector<float>& k,
                        const std::vector<float>& v, const std::vector<float>& q_norm = {},
                        const std::vector<float>& k_norm = {});
  std::vector<float> Attention(const OwnedStep& step, const AttentionShape& shape,
                               const HostCache& cache, const std::vector<float>& q);
  HostCache CopyKvBlock(const HostCache& cache, int source, int destination);

 private:
  // Device memory that is freed with this.
  template <typename T>
  struct On {
    Device::Buffer buffer;
    T* get() const { return reinterpret_cast<T*>(buffer.get()); }
  };
  template <typename T>
  On<T> Reserve(size_t bytes) const;
  On<Activation> Upload(const std::vector<float>& x) const;
  On<Activation> Space(int64_t count) const;
  On<Partial> UploadPartials(const std::vector<float>& x) const;
  On<float> UploadFloats(const std::vector<float>& x) const;
  On<std::byte> UploadBytes(const std::vector<std::byte>& bytes) const;
  std::pair<On<std::byte>, WeightMatrix> UploadWeights(const MatrixView& w) const;
  std::vector<float> Download(const Activation* x, int64_t count) const;
  // shape: of the attention of the step, if there is any.
  int64_t Begin(const OwnedStep& step, const AttentionShape& shape = {});

  std::unique_ptr<Device> device_;
};

}  // namespace tessera::kernels

#endif  // TESSERA_TESTS_KERNELS_HOST_OPS_H_
