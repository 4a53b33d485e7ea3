// A Llama of random weights on one device: the operations of a step in the order of
// worker/model/decoder.cc, without files, ranks or protos, so that a machine with CUDA and a compiler
// can measure them. With tensor_parallel = t it is one rank's slice of t, its sums left out: what
// that rank computes by itself.
//
//   auto llama = DummyLlama::Create(device.get(), LlamaShape::Llama8B(), DType::kBF16, limits);
//   (*llama)->Step(batch, context, tokens_per_sequence);   // then device->Sync()
#ifndef TESSERA_BENCHMARKS_GPU_DUMMY_LLAMA_H_
#define TESSERA_BENCHMARKS_GPU_DUMMY_LLAMA_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace tessera::gpu_bench {

struct LlamaShape {
  std::string name;
  int64_t hidden = 0;
  int layers = 0;
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int64_t ffn = 0;
  int64_t vocab = 0;

  static LlamaShape Llama1B() { return {"Llama-3.2-1B", 2048, 16, 32, 8, 64, 8192, 128256}; }
  static LlamaShape Llama8B() { return {"Llama-3.1-8B", 4096, 32, 32, 8, 128, 14336, 128256}; }
  // One of `ranks` tensor-parallel ranks' share.
  LlamaShape SliceOf(int ranks) const;
  // Of the layers: what a token is multiplied with.
  int64_t LayerParameters() const;
  int64_t HeadParameters() const { return vocab * hidden; }
};

struct Limits {
  int64_t tokens_per_step = 8192;
  int64_t kv_tokens = 0;  // of all sequences
};

class DummyLlama {
 public:
  static absl::StatusOr<std::unique_ptr<DummyLlama>> Create(kernels::Device* device,
                                                            const LlamaShape& shape,
                                                            kernels::DType dtype,
                                                            const Limits& limits);

  // One step: `tokens` tokens of each of `batch` sequences whose caches hold `context` before. Logits
  // of each sequence's last. Puts it on the device; does not wait.
  absl::Status Step(int64_t batch, int64_t context, int64_t tokens);

  // The attention of one layer alone, of that step's tokens.
  absl::Status AttentionOnly(int64_t batch, int64_t context);

  double load_bytes_per_second() const { return load_bytes_per_second_; }
  int64_t weight_bytes() const { return weight_bytes_; }  // in files' form
  int64_t head_bytes() const { return head_bytes_; }
  int64_t KvBytesPerToken() const;

 private:
  struct Layer {
    const float* attn_norm;
    const float* ffn_norm;
    kernels::WeightMatrix wq, wk, wv, wo, gate, up, down;
  };

  DummyLlama(kernels::Device* device, const LlamaShape& shape) : device_(device), shape_(shape) {}

  absl::Status Load(kernels::DType dtype, const Limits& limits);
  absl::StatusOr<std::byte*> Allocate(size_t bytes);
  absl::StatusOr<kernels::WeightMatrix> Matrix(kernels::DType dtype, int64_t rows, int64_t cols);
  absl::StatusOr<kernels::Activation*> Activations(int64_t count);
  absl::StatusOr<int64_t> Begin(int64_t batch, int64_t context, int64_t tokens);
  kernels::KvCacheView Cache(int layer) const;
  kernels::AttentionShape Heads() const;
  void RunLayers(int64_t rows);

  kernels::Device* const device_;
  const LlamaShape shape_;
  std::vector<kernels::Device::Buffer> memory_;
  std::vector<std::byte> random_;
  std::vector<Layer> layers_;
  const float* norm_ = nullptr;
  kernels::WeightMatrix embedding_, head_;
  std::byte* kv_ = nullptr;
  int64_t kv_blocks_ = 0;
  kernels::Activation *hidden_ = nullptr, *normed_ = nullptr, *gathered_ = nullptr, *q_ = nullptr,
                      *k_ = nullptr, *v_ = nullptr, *attended_ = nullptr, *gate_ = nullptr,
                      *up_ = nullptr;
  kernels::Partial* partial_ = nullptr;
  float* logits_ = nullptr;
  std::vector<int32_t> kv_head_of_;
  int64_t weight_bytes_ = 0, head_bytes_ = 0;
  double load_bytes_per_second_ = 0;

  // Of the latest step; the device borrows them.
  std::vector<int32_t> ids_, table_;
  std::vector<kernels::SequenceSpan> sequences_;
  std::vector<float> cos_, sin_;
};

}  // namespace tessera::gpu_bench

#endif  // TESSERA_BENCHMARKS_GPU_DUMMY_LLAMA_H_
