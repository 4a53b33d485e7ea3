#include "kernels/cuda/cuda_device.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/cuda_errors.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/large_matmul.h"
#include "kernels/cuda/packed_weights.h"
#include "kernels/cuda/sampling_queue.h"
#include "kernels/cuda/step_arrays.h"
#include "kernels/cuda/step_graphs.h"
#include "kernels/cuda/step_slot.h"
#include "kernels/cuda/weight_upload.h"

namespace tessera::kernels::cuda {
namespace {

// Steps of at most this many tokens, none of them a prompt's longer piece, are recorded.
constexpr int64_t kMostReplayRows = 256;
// A copy to the GPU is several times as fast as one thread reads and converts.
constexpr int kWeightReaders = 4;
// Attention items that a recorded step runs side by side, per multiprocessor.
constexpr int64_t kItemsPerMultiprocessor = 8;

BFloat16* Bf16(Activation* x) { return reinterpret_cast<BFloat16*>(x); }
const BFloat16* Bf16(const Activation* x) { return reinterpret_cast<const BFloat16*>(x); }

BFloat16* Bf16(Partial* x) { return reinterpret_cast<BFloat16*>(x); }
const BFloat16* Bf16(const Partial* x) { return reinterpret_cast<const BFloat16*>(x); }
// A partial sum is kept as an activation is.
Activation* AsActivation(Partial* x) { return reinterpret_cast<Activation*>(x); }
const Activation* AsActivation(const Partial* x) { return reinterpret_cast<const Activation*>(x); }

float* SumFloats(SquareSum* x) { return reinterpret_cast<float*>(x); }
const float* SumFloats(const SquareSum* x) { return reinterpret_cast<const float*>(x); }

void FreeOnDevice(std::byte* data) { CheckAtEnd("cudaFree", cudaFree(data)); }

KvCache CacheOf(const KvCacheView& view) {
  return {.keys = static_cast<BFloat16*>(view.keys),
          .values = static_cast<BFloat16*>(view.values),
          .num_blocks = view.num_blocks,
          .num_kv_heads = view.num_kv_heads,
          .block_tokens = view.block_tokens,
          .head_dim = view.head_dim};
}

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

  absl::Status Start() {
    constexpr char kOperation[] = "start";
    if (errors_.Check(kOperation, "cudaSetDevice", cudaSetDevice(gpu_)) &&
        errors_.Check(
            kOperation, "cudaDeviceGetAttribute",
            cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, gpu_)) &&
        errors_.Check(
            kOperation, "cudaDeviceGetAttribute",
            cudaDeviceGetAttribute(&capability_, cudaDevAttrComputeCapabilityMajor, gpu_)) &&
        errors_.Check(kOperation, "cudaStreamCreateWithFlags",
                      cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking))) {
      upload_ = std::make_unique<WeightUpload>(errors_, stream_);
      large_ = std::make_unique<LargeMatMul>(
          errors_, stream_, outgrown_,
          LargeMatMul::Options{.capability = capability_, .deterministic = deterministic_});
      graphs_ = std::make_unique<StepGraphs>(errors_, stream_);
      sampling_queue_ = std::make_unique<CudaSamplingQueue>(errors_, stream_, outgrown_);
      sampled_now_ = std::make_unique<CudaSamplingQueue>(errors_, stream_, outgrown_);
    }
    return errors_.first();
  }

  Stream stream() const { return stream_; }

  std::string Name() const override { return name_; }
  DType ActivationType() const override { return DType::kBF16; }
  DType KvType() const override { return DType::kBF16; }  // whatever was asked for
  KvLayout CacheLayout() const override { return KvLayout::kByToken; }

  absl::StatusOr<Buffer> Allocate(size_t bytes) override {
    if (!errors_.ok()) return errors_.first();
    void* data = nullptr;
    const cudaError_t code = cudaMalloc(&data, std::max<size_t>(bytes, 1));
    if (code == cudaErrorMemoryAllocation) {
      // The caller's to handle: the device goes on.
      return errors_.StatusOf(absl::StrCat("Allocate of ", bytes, " bytes").c_str(), "cudaMalloc",
                              code);
    }
    if (!errors_.Check("Allocate", "cudaMalloc", code)) return errors_.first();
    return Buffer(static_cast<std::byte*>(data), &FreeOnDevice);
  }

  absl::Status Sync() override { return Wait("Sync"); }

  absl::StatusOr<bool> Idle() override {
    if (!errors_.ok()) return errors_.first();
    const cudaError_t code = cudaStreamQuery(stream_);
    if (code == cudaErrorNotReady) return false;
    if (!errors_.Check("Idle", "cudaStreamQuery", code) || !FreeOutgrown("Idle")) {
      return errors_.first();
    }
    return true;
  }

  // -- weights ------------------------------------------------------------------------------------

  size_t WeightBytes(DType dtype, int64_t rows, int64_t cols) const override {
    return PackedBytes(dtype, rows, cols);
  }
  int64_t WeightRowGranularity() const override { return kPackRows; }
  int WeightReaders() const override { return kWeightReaders; }

  absl::Status WriteWeights(const WeightMatrix& w, int64_t row, int64_t count,
                            const std::byte* rows_data) override {
    upload_->Write(w, row, count, rows_data);
    return errors_.first();
  }

  absl::Status WriteBytes(const void* from, size_t bytes, void* to) override {
    Copy("WriteBytes", to, from, bytes, cudaMemcpyHostToDevice);
    return Wait("WriteBytes");
  }

  absl::Status ReadBytes(const void* from, size_t bytes, void* to) override {
    Copy("ReadBytes", to, from, bytes, cudaMemcpyDeviceToHost);
    return Wait("ReadBytes");
  }

  // -- activations --------------------------------------------------------------------------------

  absl::Status ReadActivations(const Activation* from, int64_t count, float* to) override {
    constexpr char kOperation[] = "ReadActivations";
    if (count == 0) return errors_.first();
    const size_t bytes = static_cast<size_t>(count) * sizeof(float);
    if (floats_.Grow(errors_, kOperation, bytes, outgrown_) &&
        host_floats_.Grow(errors_, kOperation, bytes, outgrown_) &&
        errors_.CheckLaunch(kOperation,
                            LaunchToFloat(Bf16(from), count, floats_.as<float>(), stream_))) {
      Copy(kOperation, host_floats_.data(), floats_.data(), bytes, cudaMemcpyDeviceToHost);
    }
    if (absl::Status waited = Wait(kOperation); !waited.ok()) return waited;
    std::memcpy(to, host_floats_.data(), bytes);
    return absl::OkStatus();
  }

  absl::Status WriteActivations(const float* from, int64_t count, Activation* to) override {
    constexpr char kOperation[] = "WriteActivations";
    if (count == 0) return errors_.first();
    const size_t bytes = static_cast<size_t>(count) * sizeof(float);
    if (floats_.Grow(errors_, kOperation, bytes, outgrown_) &&
        host_floats_.Grow(errors_, kOperation, bytes, outgrown_)) {
      std::memcpy(host_floats_.data(), from, bytes);
      Copy(kOperation, floats_.data(), host_floats_.data(), bytes, cudaMemcpyHostToDevice);
      errors_.CheckLaunch(kOperation,
                          LaunchFromFloat(floats_.as<float>(), count, Bf16(to), stream_));
    }
    return Wait(kOperation);
  }

  float* HostFloats(Activation* /*x*/) override { return nullptr; }

  size_t PartialBytes(int64_t count) const override { return count * sizeof(BFloat16); }
  double* HostPartials(Partial* /*x*/) override { return nullptr; }

  absl::Status ReadPartials(const Partial* from, int64_t count, double* to) override {
    host_partials_.resize(count);
    absl::Status read = ReadActivations(AsActivation(from), count, host_partials_.data());
    std::copy(host_partials_.begin(), host_partials_.end(), to);
    return read;
  }

  absl::Status WritePartials(const double* from, int64_t count, Partial* to) override {
    host_partials_.assign(from, from + count);
    return WriteActivations(host_partials_.data(), count, AsActivation(to));
  }

  size_t SquareSumBytes(int64_t count) const override { return count * sizeof(float); }
  double* HostSquareSums(SquareSum* /*x*/) override { return nullptr; }

  absl::StatusOr<const float*> ReadFloats(const float* from, int64_t count) override {
    constexpr char kOperation[] = "ReadFloats";
    const size_t bytes = static_cast<size_t>(count) * sizeof(float);
    if (host_floats_.Grow(errors_, kOperation, std::max<size_t>(bytes, 1), outgrown_)) {
      Copy(kOperation, host_floats_.data(), from, bytes, cudaMemcpyDeviceToHost);
    }
    if (absl::Status waited = Wait(kOperation); !waited.ok()) return waited;
    return host_floats_.as<const float>();
  }

  // -- a step -------------------------------------------------------------------------------------

  absl::StatusOr<int64_t> BeginStep(const StepView& step) override {
    if (!upload_->Release()) return errors_.first();  // the weights are loaded
    replayable_ = IsReplayable(step);
    const int64_t rows = replayable_ ? Bucket(step.n) : step.n;
    slot_ = replayable_ ? &short_steps_ : &long_steps_;
    StepCapacity need = CapacityFor(step, rows, step.largest_group, step.sliding_window);
    bool moved = false;
    if (!slot_->Grow(errors_, need, outgrown_, moved)) return errors_.first();
    if (moved && replayable_) graphs_->Retire();
    if (!slot_->Upload(errors_, step, rows, stream_, counts_)) return errors_.first();
    if (!FillPlaceholders(step)) return errors_.first();
    arrays_ = slot_->Arrays(step);
    largest_group_ = step.largest_group;
    return rows;
  }

  bool TakesBehind(const StepView& step) const override {
    if (!errors_.ok() || !IsReplayable(step)) return false;
    const int64_t rows = Bucket(step.n);
    return graphs_->Knows(rows) && sampling_queue_->Holds(step.n) &&
           short_steps_.Holds(CapacityFor(step, rows, step.largest_group, step.sliding_window));
  }

  int64_t MaxRows(int64_t n) const override {
    return std::max(n, Bucket(std::min(n, kMostReplayRows)));
  }

  absl::Status Replayable(int key, int64_t n, absl::FunctionRef<absl::Status()> work) override {
    if (!errors_.ok()) return errors_.first();
    if (!replayable_) return work();
    return graphs_->Run(key, n, work);
  }

  void ForgetRecordings() override { graphs_->Clear(); }

  void Embed(const WeightMatrix& table, int64_t first_row, float scale, int64_t n,
             Activation* out) override {
    if (!errors_.ok() || n == 0) return;
    errors_.CheckLaunch("Embed",
                        LaunchEmbed(table, first_row, scale, arrays_, n, Bf16(out), stream_));
  }

  void RmsNorm(const Activation* x, const float* weight, float eps, int64_t rows, int64_t cols,
               Activation* out) override {
    if (!errors_.ok() || rows == 0) return;
    errors_.CheckLaunch(
        "RmsNorm", LaunchRmsNorm(Bf16(x), weight, eps, rows, cols, Bf16(out), stream_));
  }

  void AddRmsNorm(const Partial* y, float scale, const float* weight, float eps, int64_t rows,
                  int64_t cols, Activation* x, Activation* out) override {
    if (!errors_.ok() || rows == 0) return;
    errors_.CheckLaunch("AddRmsNorm", LaunchAddRmsNorm(Bf16(y), scale, weight, eps, rows, cols,
                                                       Bf16(x), Bf16(out), stream_));
  }

  void Add(const Partial* y, float scale, int64_t count, Activation* x) override {
    if (!errors_.ok() || count == 0) return;
    errors_.CheckLaunch("Add", LaunchAdd(Bf16(y), scale, count, Bf16(x), stream_));
  }

  void AddNormed(const Partial* y, float scale, const float* weight, float eps, int64_t rows,
                 int64_t cols, Activation* x) override {
    if (!errors_.ok() || rows == 0) return;
    errors_.CheckLaunch("AddNormed", LaunchAddNormed(Bf16(y), scale, weight, eps, rows, cols,
                                                     Bf16(x), stream_));
  }

  void SumSquares(const Activation* x, int64_t rows, int64_t cols, int64_t begin, int64_t end,
                  SquareSum* sums) override {
    if (!errors_.ok() || rows == 0) return;
    errors_.CheckLaunch("SumSquares", LaunchSumSquares(Bf16(x), rows, cols, begin, end,
                                                       SumFloats(sums), stream_));
  }

  void NormalizeBySums(const SquareSum* sums, int64_t width, const float* weight, float eps,
                       int64_t rows, int64_t cols, Activation* x) override {
    if (!errors_.ok() || rows == 0) return;
    errors_.CheckLaunch("NormalizeBySums",
                        LaunchNormalizeBySums(SumFloats(sums), width, weight, eps, rows, cols,
                                              Bf16(x), stream_));
  }

  void MatMul(absl::Span<const Product> products, const Activation* x, int64_t n) override {
    if (!errors_.ok() || n == 0) return;
    MatMulProduct together[kMaxProducts], large[kMaxProducts];
    int count = 0, large_count = 0;
    for (const Product& p : products) {
      const MatMulProduct product{p.w, p.bias, Bf16(p.out)};
      if (large_->Takes(product, n)) {
        large[large_count++] = product;
      } else {
        together[count++] = product;
      }
      if (count == kMaxProducts) MultiplyTogether(together, std::exchange(count, 0), x, n);
      if (large_count == kMaxProducts) MultiplyLarge(large, std::exchange(large_count, 0), x, n);
    }
    if (count > 0) MultiplyTogether(together, count, x, n);
    if (large_count > 0) MultiplyLarge(large, large_count, x, n);
  }

  void MatMulPartial(const WeightMatrix& w, const Activation* x, int64_t n, int /*segment*/,
                     Partial* out) override {
    MatMul({{w, nullptr, AsActivation(out)}}, x, n);
  }

  void Logits(const WeightMatrix& w, const Activation* x, int64_t n, float* out) override {
    if (!errors_.ok() || n == 0) return;
    errors_.CheckLaunch("Logits", LaunchLogits(w, Bf16(x), n, out, stream_));
  }

  int MaxCandidates() const override { return kMaxCandidates; }

  absl::Status SampleRows(const float* logits, int64_t vocab, int32_t first_id,
                          absl::Span<const SampleRow> rows, SampledRow* sampled,
                          Candidate* candidates) override {
    if (!errors_.ok() || rows.empty()) return errors_.first();
    if (absl::Status begun = sampled_now_->Begin(rows); !begun.ok()) return begun;
    sampled_now_->Sample(logits, vocab, first_id, 0, static_cast<int64_t>(rows.size()));
    if (absl::Status ended = sampled_now_->End(); !ended.ok()) return ended;
    if (absl::Status waited = Wait("SampleRows"); !waited.ok()) return waited;
    return sampled_now_->Collect(sampled, candidates);
  }

  SamplingQueue* sampling_queue() override { return sampling_queue_.get(); }

  void SiluMul(const Activation* gate, const Activation* up, int64_t count,
               Activation* out) override {
    if (!errors_.ok() || count == 0) return;
    errors_.CheckLaunch("SiluMul",
                        LaunchSiluMul(Bf16(gate), Bf16(up), count, Bf16(out), stream_));
  }

  void RotateAndStore(const AttentionShape& shape, const KvCacheView& cache, int64_t n,
                      Activation* q, Activation* k, const Activation* v) override {
    constexpr char kOperation[] = "RotateAndStore";
    if (!errors_.ok() || n == 0) return;
    AttentionHeads heads;
    if (!HeadsOf(kOperation, shape, heads)) return;
    errors_.CheckLaunch(
        kOperation,
        LaunchRotateAndStore(heads, {shape.q_norm, shape.k_norm, shape.norm_eps}, arrays_,
                             CacheOf(cache), n, Bf16(q), Bf16(k), Bf16(v), stream_));
  }

  void Attention(const Activation* q, const AttentionShape& shape, const KvCacheView& cache,
                 int64_t n, Activation* out) override {
    constexpr char kOperation[] = "Attention";
    if (!errors_.ok() || n == 0) return;
    AttentionHeads heads;
    if (!HeadsOf(kOperation, shape, heads)) return;
    if (heads.largest_group > largest_group_) {
      errors_.Fail(kOperation, absl::StatusCode::kInternal,
                   absl::StrCat(heads.largest_group, " query heads read one KV head; the step was "
                                                     "begun for at most ",
                                largest_group_));
      return;
    }
    const int64_t capacity = slot_->capacity().decode_items;
    const size_t scratch_bytes = DecodeScratchBytes(heads, capacity);
    if (scratch_bytes > decode_scratch_.bytes() && !graphs_->recording()) graphs_->Retire();
    if (!decode_scratch_.Grow(errors_, kOperation, scratch_bytes, outgrown_)) return;
    if (counts_.decode_items > 0 || replayable_) {
      errors_.CheckLaunch(
          kOperation,
          LaunchDecodeAttention(Bf16(q), heads, arrays_, CacheOf(cache), n, GridItems(capacity),
                                decode_scratch_.data(), scratch_bytes, Bf16(out), stream_));
    }
    if (counts_.prefill_items > 0) {
      errors_.CheckLaunch(kOperation,
                          LaunchPrefillAttention(Bf16(q), heads, arrays_, CacheOf(cache), n,
                                                 counts_.prefill_items, Bf16(out), stream_));
    }
  }

  void CopyKvBlock(const KvCacheView& cache, int source, int destination) override {
    if (!errors_.ok()) return;
    errors_.CheckLaunch("CopyKvBlock",
                        LaunchCopyKvBlock(CacheOf(cache), source, destination, stream_));
  }

  void GatherRows(const Activation* x, absl::Span<const int64_t> rows, int64_t cols,
                  Activation* out) override {
    constexpr char kOperation[] = "GatherRows";
    if (!errors_.ok() || rows.empty()) return;
    const size_t bytes = rows.size() * sizeof(int64_t);
    if (!rows_copied_.Wait(errors_, kOperation) ||
        !host_rows_.Grow(errors_, kOperation, bytes, outgrown_) ||
        !rows_.Grow(errors_, kOperation, bytes, outgrown_)) {
      return;
    }
    std::memcpy(host_rows_.data(), rows.data(), bytes);
    Copy(kOperation, rows_.data(), host_rows_.data(), bytes, cudaMemcpyHostToDevice);
    rows_copied_.Record(errors_, kOperation, stream_);
    const int64_t x_rows = *std::max_element(rows.begin(), rows.end()) + 1;
    errors_.CheckLaunch(kOperation,
                        LaunchGatherRows(Bf16(x), x_rows, rows_.as<int64_t>(),
                                         static_cast<int64_t>(rows.size()), cols, Bf16(out),
                                         stream_));
  }

 private:
  absl::Status Wait(const char* operation) {
    if (!errors_.ok()) return errors_.first();
    if (errors_.Check(operation, "cudaStreamSynchronize", cudaStreamSynchronize(stream_))) {
      FreeOutgrown(operation);
    }
    return errors_.first();
  }

  // The stream has nothing to do.
  bool FreeOutgrown(const char* operation) {
    return graphs_->FreeRetired(operation) && outgrown_.Free(errors_, operation);
  }

  static bool IsReplayable(const StepView& step) {
    if (step.n < 1 || step.n > kMostReplayRows) return false;
    return std::all_of(step.sequences, step.sequences + step.num_sequences,
                       [](const SequenceSpan& s) { return s.num_tokens < kPrefillTokens; });
  }

  // Puts what the batch before the step sampled into the step's ids, which are uploaded.
  bool FillPlaceholders(const StepView& step) {
    constexpr char kOperation[] = "BeginStep";
    const int32_t* const end = step.ids != nullptr ? step.ids + step.n : step.ids;
    const int32_t* const least = std::min_element(step.ids, end);
    if (least == end || *least >= 0) return errors_.ok();
    const RankSamples samples = sampling_queue_->newest();
    if (-int64_t{*least} > samples.rows) {
      errors_.Fail(kOperation, absl::StatusCode::kInternal,
                   absl::StrCat("token id ", *least, "; the rows sampled before the step are ",
                                samples.rows));
      return false;
    }
    return errors_.CheckLaunch(
        kOperation, LaunchFillPlaceholders(samples, step.n, slot_->MutableIds(), stream_));
  }

  void Copy(const char* operation, void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    if (!errors_.ok() || bytes == 0) return;
    errors_.Check(operation, "cudaMemcpyAsync", cudaMemcpyAsync(to, from, bytes, kind, stream_));
  }

  void MultiplyTogether(const MatMulProduct* products, int count, const Activation* x, int64_t n) {
    if (!errors_.ok()) return;
    errors_.CheckLaunch("MatMul",
                        n <= kSmallMatMulRows
                            ? LaunchSmallMatMul(products, count, Bf16(x), n, stream_)
                            : LaunchTiledMatMul(products, count, Bf16(x), n, stream_));
  }

  void MultiplyLarge(const MatMulProduct* products, int count, const Activation* x, int64_t n) {
    if (!errors_.ok()) return;
    large_->Multiply({products, static_cast<size_t>(count)}, Bf16(x), n);
  }

  // How many items of attention run side by side: all of them, but the same number each time where
  // the step is recorded.
  int64_t GridItems(int64_t capacity) const {
    if (!replayable_) return std::max<int64_t>(counts_.decode_items, 1);
    return std::max<int64_t>(1, std::min(capacity, kItemsPerMultiprocessor * multiprocessors_));
  }

  // `shape` with its grouping in device memory, which stays there.
  bool HeadsOf(const char* operation, const AttentionShape& shape, AttentionHeads& heads) {
    begins_.assign(1, 0);
    int largest = 0;
    for (int kv = 0, h = 0; kv < shape.num_kv_heads; ++kv) {
      while (h < shape.num_q_heads && shape.kv_head_of[h] <= kv) ++h;
      largest = std::max(largest, h - begins_.back());
      begins_.push_back(h);
    }
    auto [place, is_new] = groupings_.try_emplace(begins_);
    const size_t bytes = begins_.size() * sizeof(int32_t);
    Grouping& grouping = place->second;
    if (is_new) {
      if (!grouping.host.Reserve(errors_, operation, bytes) ||
          !grouping.device.Reserve(errors_, operation, bytes)) {
        return false;
      }
      std::memcpy(grouping.host.data(), begins_.data(), bytes);
      Copy(operation, grouping.device.data(), grouping.host.data(), bytes, cudaMemcpyHostToDevice);
    }
    heads = {.num_q_heads = shape.num_q_heads,
             .num_kv_heads = shape.num_kv_heads,
             .head_dim = shape.head_dim,
             .group_begins = grouping.device.as<int32_t>(),
             .largest_group = largest,
             .scale = shape.scale,
             .sliding_window = shape.sliding_window,
             .rotary = shape.rotary};
    return errors_.ok();
  }

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
  bool replayable_ = false;  // the step
  int largest_group_ = 0;    // of the step

  DeviceMemory decode_scratch_;
  DeviceMemory floats_;       // activations as float32, on their way
  PinnedMemory host_floats_;  // the same, or logits
  std::vector<float> host_partials_;
  DeviceMemory rows_;
  PinnedMemory host_rows_;
  Event rows_copied_;
  // By group_begins of AttentionHeads, which they hold. Pinned: copying other memory of the host
  // may wait for the stream.
  struct Grouping {
    PinnedMemory host;
    DeviceMemory device;
  };
  std::map<std::vector<int32_t>, Grouping> groupings_;
  std::vector<int32_t> begins_;  // scratch
};

absl::Status CallError(const char* function, cudaError_t code) {
  return CudaErrors("cuda").StatusOf("looking for GPUs", function, code);
}

}  // namespace

absl::StatusOr<int> CountGpus() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess || count == 0) {
    return absl::NotFoundError(CallError("cudaGetDeviceCount", code == cudaSuccess
                                                                   ? cudaErrorNoDevice
                                                                   : code).message());
  }
  return count;
}

absl::StatusOr<MemoryInfo> MemoryOfGpu(int gpu) {
  if (cudaError_t code = cudaSetDevice(gpu); code != cudaSuccess) {
    return CallError("cudaSetDevice", code);
  }
  size_t free = 0, total = 0;
  if (cudaError_t code = cudaMemGetInfo(&free, &total); code != cudaSuccess) {
    return CallError("cudaMemGetInfo", code);
  }
  return MemoryInfo{static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(const DeviceOptions& options) {
  absl::StatusOr<int> gpus = CountGpus();
  if (!gpus.ok()) return gpus.status();
  if (options.gpu < 0 || options.gpu >= *gpus) {
    return absl::NotFoundError(
        absl::StrCat("cuda device ", options.gpu, ": this machine has GPUs 0 .. ", *gpus - 1));
  }
  cudaDeviceProp properties = {};
  if (cudaError_t code = cudaGetDeviceProperties(&properties, options.gpu); code != cudaSuccess) {
    return CallError("cudaGetDeviceProperties", code);
  }
  auto device = std::make_unique<CudaDevice>(
      options, absl::StrCat("cuda ", options.gpu, ": ", properties.name));
  if (absl::Status started = device->Start(); !started.ok()) return started;
  return device;
}

Stream StreamOf(Device* device) {
  auto* const cuda = dynamic_cast<CudaDevice*>(device);
  return cuda != nullptr ? cuda->stream() : nullptr;
}

}  // namespace tessera::kernels::cuda
