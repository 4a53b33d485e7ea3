// CudaDevice itself, for the files that implement it, one for each of a device's interfaces
// (kernels/device.h). What others see is cuda_device.h.
//
// All of it shares one stream and one record of errors: the first call that fails is the device's
// last.
#ifndef TESSERA_KERNELS_CUDA_CUDA_DEVICE_IMPL_H_
#define TESSERA_KERNELS_CUDA_CUDA_DEVICE_IMPL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cuda/cuda_errors.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/large_matmul.h"
#include "kernels/cuda/packed_weights.h"
#include "kernels/cuda/sampling_queue.h"
#include "kernels/cuda/step_arrays.h"
#include "kernels/cuda/step_graphs.h"
#include "kernels/cuda/step_slot.h"
#include "kernels/cuda/weight_upload.h"
#include "kernels/device.h"

namespace tessera::kernels::cuda {

inline BFloat16* Bf16(Activation* x) { return reinterpret_cast<BFloat16*>(x); }
inline const BFloat16* Bf16(const Activation* x) { return reinterpret_cast<const BFloat16*>(x); }

inline BFloat16* Bf16(Partial* x) { return reinterpret_cast<BFloat16*>(x); }
inline const BFloat16* Bf16(const Partial* x) { return reinterpret_cast<const BFloat16*>(x); }
// A partial sum is kept as an activation is.
inline Activation* AsActivation(Partial* x) { return reinterpret_cast<Activation*>(x); }
inline const Activation* AsActivation(const Partial* x) {
  return reinterpret_cast<const Activation*>(x);
}

inline float* SumFloats(SquareSum* x) { return reinterpret_cast<float*>(x); }
inline const float* SumFloats(const SquareSum* x) { return reinterpret_cast<const float*>(x); }

class CudaDevice final : public Device {
 public:
  CudaDevice(const DeviceOptions& options, std::string name)
      : gpu_(options.gpu),
        deterministic_(options.deterministic),
        name_(std::move(name)),
        errors_(name_) {}

  ~CudaDevice() override {
    graphs_.reset();
    if (stream_ != nullptr) CheckAtEnd("cudaStreamDestroy", cudaStreamDestroy(stream_));
  }

  // Before anything else; what went wrong.
  absl::Status Start();
  Stream stream() const { return stream_; }
  std::string Name() const override { return name_; }

  // DeviceMemory (cuda_device_memory.cc).
  DType ActivationType() const override { return DType::kBF16; }
  DType KvType() const override { return DType::kBF16; }  // whatever was asked for
  KvLayout CacheLayout() const override { return KvLayout::kByToken; }
  absl::StatusOr<Buffer> Allocate(size_t bytes) override;
  absl::Status Sync() override { return Wait("Sync"); }
  absl::StatusOr<bool> Idle() override;
  size_t WeightBytes(DType dtype, int64_t rows, int64_t cols) const override {
    return PackedBytes(dtype, rows, cols);
  }
  int64_t WeightRowGranularity() const override { return kPackRows; }
  int WeightReaders() const override;
  absl::Status WriteWeights(const WeightMatrix& w, int64_t row, int64_t count,
                            const std::byte* rows_data) override;
  absl::Status WriteBytes(const void* from, size_t bytes, void* to) override;
  absl::Status ReadBytes(const void* from, size_t bytes, void* to) override;
  absl::Status ReadActivations(const Activation* from, int64_t count, float* to) override;
  absl::Status WriteActivations(const float* from, int64_t count, Activation* to) override;
  float* HostFloats(Activation* /*x*/) override { return nullptr; }
  size_t PartialBytes(int64_t count) const override { return count * sizeof(BFloat16); }
  double* HostPartials(Partial* /*x*/) override { return nullptr; }
  absl::Status ReadPartials(const Partial* from, int64_t count, double* to) override;
  absl::Status WritePartials(const double* from, int64_t count, Partial* to) override;
  size_t SquareSumBytes(int64_t count) const override { return count * sizeof(float); }
  double* HostSquareSums(SquareSum* /*x*/) override { return nullptr; }
  absl::StatusOr<const float*> ReadFloats(const float* from, int64_t count) override;

  // DeviceOps (cuda_device_ops.cc; BeginStep in cuda_device_steps.cc).
  absl::StatusOr<int64_t> BeginStep(const StepView& step) override;
  int64_t MaxRows(int64_t n) const override;
  void Embed(const WeightMatrix& table, int64_t first_row, float scale, int64_t n,
             Activation* out) override;
  void RmsNorm(const Activation* x, const float* weight, float eps, int64_t rows, int64_t cols,
               Activation* out) override;
  void AddRmsNorm(const Partial* y, float scale, const float* weight, float eps, int64_t rows,
                  int64_t cols, Activation* x, Activation* out) override;
  void Add(const Partial* y, float scale, int64_t count, Activation* x) override;
  void AddNormed(const Partial* y, float scale, const float* weight, float eps, int64_t rows,
                 int64_t cols, Activation* x) override;
  void SumSquares(const Activation* x, int64_t rows, int64_t cols, int64_t begin, int64_t end,
                  SquareSum* sums) override;
  void NormalizeBySums(const SquareSum* sums, int64_t width, const float* weight, float eps,
                       int64_t rows, int64_t cols, Activation* x) override;
  void MatMul(absl::Span<const Product> products, const Activation* x, int64_t n) override;
  void MatMulPartial(const WeightMatrix& w, const Activation* x, int64_t n, int /*segment*/,
                     Partial* out) override;
  void Logits(const WeightMatrix& w, const Activation* x, int64_t n, float* out) override;
  void SiluMul(const Activation* gate, const Activation* up, int64_t count,
               Activation* out) override;
  void RotateAndStore(const AttentionShape& shape, const KvCacheView& cache, int64_t n,
                      Activation* q, Activation* k, const Activation* v) override;
  void Attention(const Activation* q, const AttentionShape& shape, const KvCacheView& cache,
                 int64_t n, Activation* out) override;
  void CopyKvBlock(const KvCacheView& cache, int source, int destination) override;
  void GatherRows(const Activation* x, absl::Span<const int64_t> rows, int64_t cols,
                  Activation* out) override;

  // RowSampler (cuda_device_steps.cc).
  int MaxCandidates() const override { return kMaxCandidates; }
  absl::Status SampleRows(const float* logits, int64_t vocab, int32_t first_id,
                          absl::Span<const SampleRow> rows, SampledRow* sampled,
                          Candidate* candidates) override;
  SamplingQueue* sampling_queue() override { return sampling_queue_.get(); }

  // Recorder (cuda_device_steps.cc).
  absl::Status Replayable(int key, int64_t n, absl::FunctionRef<absl::Status()> work) override;
  void ForgetRecordings() override { graphs_->Clear(); }
  bool TakesBehind(const StepView& step) const override;

 private:
  absl::Status Wait(const char* operation);
  // Frees what was outgrown; the stream has nothing to do.
  bool FreeOutgrown(const char* operation);
  static bool IsReplayable(const StepView& step);
  // Puts what the batch before the step sampled into the step's ids, which are uploaded.
  bool FillPlaceholders(const StepView& step);
  void Copy(const char* operation, void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
  void MultiplyTogether(const MatMulProduct* products, int count, const Activation* x, int64_t n);
  void MultiplyLarge(const MatMulProduct* products, int count, const Activation* x, int64_t n);
  // How many items of attention run side by side: all of them, but the same number each time where
  // the step is recorded.
  int64_t GridItems(int64_t capacity) const;
  // `shape` with its grouping in device memory, which stays there.
  bool HeadsOf(const char* operation, const AttentionShape& shape, AttentionHeads& heads);

  const int gpu_;
  const bool deterministic_;
  const std::string name_;
  CudaErrors errors_;
  cudaStream_t stream_ = nullptr;
  Outgrown outgrown_;  // by all below
  int multiprocessors_ = 1;
  int capability_ = 0;  // the card's major number

  std::unique_ptr<WeightUpload> upload_;
  std::unique_ptr<LargeMatMul> large_;
  std::unique_ptr<StepGraphs> graphs_;
  std::unique_ptr<CudaSamplingQueue> sampling_queue_;
  std::unique_ptr<CudaSamplingQueue> sampled_now_;  // for SampleRows: this rank's part alone

  StepSlot short_steps_, long_steps_;
  StepSlot* slot_ = &long_steps_;
  StepArrays arrays_;
  StepCounts counts_;
  bool replayable_ = false;  // the step at hand
  int largest_group_ = 0;    // of the step at hand

  DeviceBuffer decode_scratch_;
  DeviceBuffer floats_;       // activations as float32, on their way
  PinnedMemory host_floats_;  // the same, or logits
  std::vector<float> host_partials_;
  DeviceBuffer rows_;
  PinnedMemory host_rows_;
  Event rows_copied_;
  // The groupings by their group_begins, which AttentionHeads points to. Pinned: copying other
  // memory of the host may wait for the stream.
  struct Grouping {
    PinnedMemory host;
    DeviceBuffer device;
  };
  std::map<std::vector<int32_t>, Grouping> groupings_;
  std::vector<int32_t> begins_;  // scratch
};

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_KERNELS_CUDA_CUDA_DEVICE_IMPL_H_
