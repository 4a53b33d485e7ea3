#include "kernels/cpu/cpu_device.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/attention_work.h"
#include "kernels/cpu/huge_pages.h"
#include "kernels/cpu/instruction_sets.h"
#include "kernels/cpu/kv_store.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/packed_weights.h"
#include "kernels/cpu/product_work.h"
#include "kernels/cpu/workers.h"

namespace tessera::kernels::cpu {
namespace {

constexpr size_t kAlignment = 64;
constexpr int kMaxThreads = 1024;

float* Floats(Activation* x) { return reinterpret_cast<float*>(x); }
const float* Floats(const Activation* x) { return reinterpret_cast<const float*>(x); }

double* Doubles(Partial* x) { return reinterpret_cast<double*>(x); }
const double* Doubles(const Partial* x) { return reinterpret_cast<const double*>(x); }

double* Doubles(SquareSum* x) { return reinterpret_cast<double*>(x); }
const double* Doubles(const SquareSum* x) { return reinterpret_cast<const double*>(x); }

// Zero bytes are copied too, whose pointers may be null.
void Copy(const void* from, size_t bytes, void* to) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

class CpuDevice final : public Device {
 public:
  CpuDevice(const OpsTable& ops, const DeviceOptions& options)
      : ops_(ops),
        kv_type_(options.kv_type),
        workers_(options.threads),
        products_(&ops, &workers_),
        attention_(&ops, &workers_) {}

  std::string Name() const override { return absl::StrCat("cpu ", ops_.name); }
  DType ActivationType() const override { return DType::kF32; }
  DType KvType() const override { return kv_type_; }
  KvLayout CacheLayout() const override {
    return kv_type_ == DType::kBF16 ? KvLayout::kPairs : KvLayout::kKeysByDim;
  }

  absl::StatusOr<Buffer> Allocate(size_t bytes) override {
    std::byte* data = memory_.Allocate(bytes);
    if (data == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cpu device: no memory for a buffer of ", bytes, " bytes"));
    }
    return Buffer(data, &PieceAllocator::Free);
  }

  absl::Status Sync() override { return absl::OkStatus(); }

  size_t WeightBytes(DType dtype, int64_t rows, int64_t cols) const override {
    return PackedBytes(dtype, rows, cols);
  }

  int64_t WeightRowGranularity() const override { return kGroupRows; }

  absl::Status WriteWeights(const WeightMatrix& w, int64_t row, int64_t count,
                            const std::byte* rows_data) override {
    assert(row % kGroupRows == 0);
    if (w.dtype == DType::kF8E4M3) {
      return absl::UnimplementedError(absl::StrCat(
          Name(), ": weights of type ", std::string(DTypeName(w.dtype)), ": only cuda has them"));
    }
    const size_t row_bytes = RowBytes(w.dtype, w.cols);
    workers_.Split(count, kGroupRows, count * w.cols >= kMinParallelElements,
                   [&](int64_t begin, int64_t end, int) {
                     PackRows(w.dtype, w.cols, row + begin, end - begin,
                              rows_data + begin * row_bytes, w.data);
                   });
    return absl::OkStatus();
  }

  absl::Status WriteBytes(const void* from, size_t bytes, void* to) override {
    Copy(from, bytes, to);
    return absl::OkStatus();
  }

  absl::Status ReadBytes(const void* from, size_t bytes, void* to) override {
    Copy(from, bytes, to);
    return absl::OkStatus();
  }

  absl::Status ReadActivations(const Activation* from, int64_t count, float* to) override {
    Copy(Floats(from), count * sizeof(float), to);
    return absl::OkStatus();
  }

  absl::Status WriteActivations(const float* from, int64_t count, Activation* to) override {
    Copy(from, count * sizeof(float), Floats(to));
    return absl::OkStatus();
  }

  float* HostFloats(Activation* x) override { return Floats(x); }

  size_t PartialBytes(int64_t count) const override { return count * sizeof(double); }
  double* HostPartials(Partial* x) override { return Doubles(x); }

  absl::Status ReadPartials(const Partial* from, int64_t count, double* to) override {
    Copy(Doubles(from), count * sizeof(double), to);
    return absl::OkStatus();
  }

  absl::Status WritePartials(const double* from, int64_t count, Partial* to) override {
    Copy(from, count * sizeof(double), Doubles(to));
    return absl::OkStatus();
  }

  size_t SquareSumBytes(int64_t count) const override { return count * sizeof(double); }
  double* HostSquareSums(SquareSum* x) override { return Doubles(x); }

  absl::StatusOr<const float*> ReadFloats(const float* from, int64_t /*count*/) override {
    return from;
  }

  absl::StatusOr<int64_t> BeginStep(const StepView& step) override {
    step_ = step;
    positions_.clear();
    block_tables_.clear();
    for (int64_t s = 0; s < step.num_sequences; ++s) {
      const SequenceSpan& span = step.sequences[s];
      assert(span.first_token == static_cast<int64_t>(positions_.size()));
      for (int32_t i = 0; i < span.num_tokens; ++i) {
        positions_.push_back(span.start_position + i);
        block_tables_.push_back(span.block_table);
      }
    }
    assert(step.n == static_cast<int64_t>(positions_.size()));
    return step.n;
  }

  void Embed(const WeightMatrix& table, int64_t first_row, float scale, int64_t n,
             Activation* out) override {
    workers_.Split(n, 1, n * table.cols >= kMinParallelElements,
                   [&](int64_t begin, int64_t end, int) {
                     for (int64_t t = begin; t < end; ++t) {
                       float* to = Floats(out) + t * table.cols;
                       const int64_t row = step_.ids[t] - first_row;
                       if (row >= 0 && row < table.rows) {
                         UnpackRow(table.dtype, table.data, table.cols, row, to);
                         if (scale == 1.0f) continue;
                         for (int64_t c = 0; c < table.cols; ++c) to[c] *= scale;
                       } else {
                         std::fill(to, to + table.cols, 0.0f);
                       }
                     }
                   });
  }

  void RmsNorm(const Activation* x, const float* weight, float eps, int64_t rows, int64_t cols,
               Activation* out) override {
    workers_.Split(rows, 1, rows * cols >= kMinParallelElements,
                   [&](int64_t begin, int64_t end, int) {
                     ops_.rms_norm(Floats(x) + begin * cols, weight, eps, end - begin, cols,
                                   Floats(out) + begin * cols);
                   });
  }

  void AddRmsNorm(const Partial* y, float scale, const float* weight, float eps, int64_t rows,
                  int64_t cols, Activation* x, Activation* out) override {
    workers_.Split(
        rows, 1, rows * cols >= kMinParallelElements, [&](int64_t begin, int64_t end, int) {
          const int64_t first = begin * cols;
          ops_.add(Doubles(y) + first, scale, (end - begin) * cols, Floats(x) + first);
          ops_.rms_norm(Floats(x) + first, weight, eps, end - begin, cols, Floats(out) + first);
        });
  }

  void Add(const Partial* y, float scale, int64_t count, Activation* x) override {
    workers_.Split(count, kAlignment, count >= 4 * kMinParallelElements,
                   [&](int64_t begin, int64_t end, int) {
                     ops_.add(Doubles(y) + begin, scale, end - begin, Floats(x) + begin);
                   });
  }

  void AddNormed(const Partial* y, float scale, const float* weight, float eps, int64_t rows,
                 int64_t cols, Activation* x) override {
    workers_.Split(rows, 1, rows * cols >= kMinParallelElements,
                   [&](int64_t begin, int64_t end, int) {
                     ops_.add_normed(Doubles(y) + begin * cols, scale, weight, eps, end - begin,
                                     cols, Floats(x) + begin * cols);
                   });
  }

  void SumSquares(const Activation* x, int64_t rows, int64_t cols, int64_t first, int64_t last,
                  SquareSum* sums) override {
    workers_.Split(rows, 1, rows * (last - first) >= kMinParallelElements,
                   [&](int64_t begin, int64_t end, int) {
                     ops_.sum_squares(Floats(x) + begin * cols, end - begin, cols, first, last,
                                      Doubles(sums) + begin);
                   });
  }

  void NormalizeBySums(const SquareSum* sums, int64_t width, const float* weight, float eps,
                       int64_t rows, int64_t cols, Activation* x) override {
    workers_.Split(rows, 1, rows * cols >= kMinParallelElements,
                   [&](int64_t begin, int64_t end, int) {
                     ops_.normalize_by_sums(Doubles(sums) + begin, width, weight, eps, end - begin,
                                            cols, Floats(x) + begin * cols);
                   });
  }

  void MatMul(absl::Span<const Product> products, const Activation* x, int64_t n) override {
    if (n <= 0) return;
    products_.Begin(Floats(x), n);
    for (const Product& p : products) {
      products_.Add({.w = p.w, .bias = p.bias, .out = Floats(p.out)});
    }
    products_.Run();
  }

  void MatMulPartial(const WeightMatrix& w, const Activation* x, int64_t n, int segment,
                     Partial* out) override {
    if (n <= 0) return;
    if (segment % 32 != 0) {
      return products_.MultiplyInDoubles(w, Floats(x), n, Doubles(out));
    }
    products_.Begin(Floats(x), n);
    products_.Add({.w = w, .partials = Doubles(out), .segment = segment});
    products_.Run();
  }

  void Logits(const WeightMatrix& w, const Activation* x, int64_t n, float* out) override {
    if (n <= 0) return;
    products_.Begin(Floats(x), n);
    products_.Add({.w = w, .out = out});
    products_.Run();
  }

  void SiluMul(const Activation* gate, const Activation* up, int64_t count,
               Activation* out) override {
    workers_.Split(
        count, kAlignment, count >= kMinParallelElements, [&](int64_t begin, int64_t end, int) {
          ops_.silu_mul(Floats(gate) + begin, Floats(up) + begin, end - begin, Floats(out) + begin);
        });
  }

  void RotateAndStore(const AttentionShape& shape, const KvCacheView& cache, int64_t n,
                      Activation* q, Activation* k, const Activation* v) override {
    const int64_t q_row = int64_t{shape.num_q_heads} * shape.head_dim;
    const int64_t kv_row = int64_t{shape.num_kv_heads} * shape.head_dim;
    workers_.Split(
        n, 1, n * (q_row + kv_row) >= kMinParallelElements, [&](int64_t begin, int64_t end, int) {
          Rotate(shape.num_q_heads, shape, shape.q_norm, begin, end, Floats(q) + begin * q_row);
          Rotate(shape.num_kv_heads, shape, shape.k_norm, begin, end, Floats(k) + begin * kv_row);
          for (int64_t t = begin; t < end; ++t) {
            StoreKeyAndValue(Floats(k) + t * kv_row, Floats(v) + t * kv_row, block_tables_[t],
                             positions_[t], cache);
          }
        });
  }

  void Attention(const Activation* q, const AttentionShape& shape, const KvCacheView& cache,
                 int64_t n, Activation* out) override {
    assert(shape.head_dim == cache.head_dim && cache.layout == CacheLayout());
    if (n <= 0) return;
    const AttentionArgs args = {Floats(q), shape, cache, Floats(out)};
    attention_.Attend(args, step_);
  }

  void CopyKvBlock(const KvCacheView& cache, int source, int destination) override {
    CopyBlock(cache, source, destination, cache.keys);
    CopyBlock(cache, source, destination, cache.values);
  }

  void GatherRows(const Activation* x, absl::Span<const int64_t> rows, int64_t cols,
                  Activation* out) override {
    float* to = Floats(out);
    for (const int64_t row : rows) {
      std::memcpy(to, Floats(x) + row * cols, cols * sizeof(float));
      to += cols;
    }
  }

 private:
  // Heads of the step's tokens [begin, end). x: (end - begin, heads, head_dim).
  void Rotate(int heads, const AttentionShape& shape, const float* norm, int64_t begin, int64_t end,
              float* x) {
    if (norm != nullptr) {
      ops_.rms_norm(x, norm, shape.norm_eps, (end - begin) * heads, shape.head_dim, x);
    }
    if (shape.rotary) ops_.rope(step_.rope, begin, end - begin, heads, shape.head_dim, x);
  }

  const OpsTable& ops_;
  const DType kv_type_;
  PieceAllocator memory_;
  Workers workers_;
  ProductWork products_;
  AttentionWork attention_;
  StepView step_;
  std::vector<int32_t> positions_;            // of the step's tokens
  std::vector<const int32_t*> block_tables_;  // likewise
};

}  // namespace

std::vector<std::string> AvailableInstructionSets() {
  std::vector<std::string> names;
  for (const OpsTable* table : AvailableTables()) names.emplace_back(table->name);
  return names;
}

absl::StatusOr<std::unique_ptr<Device>> MakeCpuDevice(const DeviceOptions& options) {
  if (options.threads < 1 || options.threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("cpu device: threads is ", options.threads, ", expected 1 to ", kMaxThreads));
  }
  if (options.kv_type != DType::kF32 && options.kv_type != DType::kBF16) {
    return absl::InvalidArgumentError(absl::StrCat("cpu device: keys and values kept as ",
                                                   std::string(DTypeName(options.kv_type)),
                                                   ", expected F32 or BF16"));
  }
  absl::StatusOr<const OpsTable*> table = ChooseTable(options.instruction_set);
  if (!table.ok()) return table.status();
  return std::make_unique<CpuDevice>(**table, options);
}

}  // namespace tessera::kernels::cpu
