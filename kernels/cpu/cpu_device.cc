#include "kernels/cpu/cpu_device.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/huge_pages.h"
#include "kernels/cpu/instruction_sets.h"
#include "kernels/cpu/kv_store.h"
#include "kernels/cpu/matmul_input.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/packed_weights.h"
#include "kernels/cpu/thread_pool.h"

namespace tessera::kernels::cpu {
namespace {

constexpr size_t kAlignment = 64;
constexpr int kMaxThreads = 1024;

// Below these sizes a job is done before another thread has heard of it.
constexpr int64_t kMinParallelMacs = 64 * 1024;
constexpr int64_t kMinParallelElements = 32 * 1024;

// More parts than threads: a thread that is held up leaves its share to the others.
constexpr int kPartsPerThread = 4;
// As many tokens as one walk over the weights serves: up to here a product waits for memory, and each
// thread reads one piece of it.
constexpr int64_t kFewTokens = kTokenTile;

// Grows, never shrinks; what it held is lost when it grows.
class Scratch {
 public:
  template <typename T>
  T* Get(int64_t count) {
    const size_t bytes = (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    if (bytes > size_) {
      data_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, bytes)));
      if (data_ == nullptr) throw std::bad_alloc();
      size_ = bytes;
    }
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

float* Floats(Activation* x) { return reinterpret_cast<float*>(x); }
const float* Floats(const Activation* x) { return reinterpret_cast<const float*>(x); }

double* Doubles(Partial* x) { return reinterpret_cast<double*>(x); }
const double* Doubles(const Partial* x) { return reinterpret_cast<const double*>(x); }

class CpuDevice final : public Device {
 public:
  CpuDevice(const OpsTable& ops, const DeviceOptions& options)
      : ops_(ops),
        kv_type_(options.kv_type),
        pool_(options.threads),
        scratch_(options.threads) {}

  std::string Name() const override { return absl::StrCat("cpu ", ops_.name); }
  DType ActivationType() const override { return DType::kF32; }
  DType KvType() const override { return kv_type_; }
  bool KeysByDim() const override { return true; }

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
    const size_t row_bytes = RowBytes(w.dtype, w.cols);
    Split(count, kGroupRows, count * w.cols >= kMinParallelElements,
          [&](int64_t begin, int64_t end, int) {
            PackRows(w.dtype, w.cols, row + begin, end - begin, rows_data + begin * row_bytes,
                     w.data);
          });
    return absl::OkStatus();
  }

  absl::Status WriteBytes(const void* from, size_t bytes, void* to) override {
    std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }

  absl::Status ReadBytes(const void* from, size_t bytes, void* to) override {
    std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }

  absl::Status ReadActivations(const Activation* from, int64_t count, float* to) override {
    std::memcpy(to, Floats(from), count * sizeof(float));
    return absl::OkStatus();
  }

  absl::Status WriteActivations(const float* from, int64_t count, Activation* to) override {
    std::memcpy(Floats(to), from, count * sizeof(float));
    return absl::OkStatus();
  }

  float* HostFloats(Activation* x) override { return Floats(x); }

  size_t PartialBytes(int64_t count) const override { return count * sizeof(double); }
  double* HostPartials(Partial* x) override { return Doubles(x); }

  absl::Status ReadPartials(const Partial* from, int64_t count, double* to) override {
    std::memcpy(to, Doubles(from), count * sizeof(double));
    return absl::OkStatus();
  }

  absl::Status WritePartials(const double* from, int64_t count, Partial* to) override {
    std::memcpy(Doubles(to), from, count * sizeof(double));
    return absl::OkStatus();
  }

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

  void Embed(const WeightMatrix& table, int64_t first_row, int64_t n, Activation* out) override {
    Split(n, 1, n * table.cols >= kMinParallelElements, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        float* to = Floats(out) + t * table.cols;
        const int64_t row = step_.ids[t] - first_row;
        if (row >= 0 && row < table.rows) {
          UnpackRow(table.dtype, table.data, table.cols, row, to);
        } else {
          std::fill(to, to + table.cols, 0.0f);
        }
      }
    });
  }

  void RmsNorm(const Activation* x, const float* weight, float eps, int64_t rows, int64_t cols,
               Activation* out) override {
    Split(rows, 1, rows * cols >= kMinParallelElements, [&](int64_t begin, int64_t end, int) {
      ops_.rms_norm(Floats(x) + begin * cols, weight, eps, end - begin, cols,
                    Floats(out) + begin * cols);
    });
  }

  void AddRmsNorm(const Partial* y, const float* weight, float eps, int64_t rows, int64_t cols,
                  Activation* x, Activation* out) override {
    Split(rows, 1, rows * cols >= kMinParallelElements, [&](int64_t begin, int64_t end, int) {
      const int64_t first = begin * cols;
      ops_.add(Doubles(y) + first, (end - begin) * cols, Floats(x) + first);
      ops_.rms_norm(Floats(x) + first, weight, eps, end - begin, cols, Floats(out) + first);
    });
  }

  void Add(const Partial* y, int64_t count, Activation* x) override {
    Split(count, kAlignment, count >= 4 * kMinParallelElements,
          [&](int64_t begin, int64_t end, int) {
            ops_.add(Doubles(y) + begin, end - begin, Floats(x) + begin);
          });
  }

  void MatMul(absl::Span<const Product> products, const Activation* x, int64_t n) override {
    if (n <= 0) return;
    Prepared prepared;
    products_.clear();
    for (const Product& p : products) {
      products_.push_back(Arguments(p.w, x, n, p.bias, Floats(p.out), prepared));
    }
    Multiply(n);
  }

  void MatMulPartial(const WeightMatrix& w, const Activation* x, int64_t n, int segment,
                     Partial* out) override {
    if (n <= 0) return;
    if (segment % 32 != 0) return MultiplyInDoubles(w, Floats(x), n, Doubles(out));
    Prepared prepared;
    ProductArgs args = Arguments(w, x, n, nullptr, nullptr, prepared);
    args.partials = Doubles(out);
    args.segment_blocks = segment / 32;
    products_.assign(1, args);
    Multiply(n);
  }

  void Logits(const WeightMatrix& w, const Activation* x, int64_t n, float* out) override {
    if (n <= 0) return;
    Prepared prepared;
    products_.assign(1, Arguments(w, x, n, nullptr, out, prepared));
    Multiply(n);
  }

  void SiluMul(const Activation* gate, const Activation* up, int64_t count,
               Activation* out) override {
    Split(count, kAlignment, count >= kMinParallelElements, [&](int64_t begin, int64_t end, int) {
      ops_.silu_mul(Floats(gate) + begin, Floats(up) + begin, end - begin, Floats(out) + begin);
    });
  }

  void RotateAndStore(const AttentionShape& shape, const KvCacheView& cache, int64_t n,
                      Activation* q, Activation* k, const Activation* v) override {
    const int64_t q_row = int64_t{shape.num_q_heads} * shape.head_dim;
    const int64_t kv_row = int64_t{shape.num_kv_heads} * shape.head_dim;
    Split(n, 1, n * (q_row + kv_row) >= kMinParallelElements,
          [&](int64_t begin, int64_t end, int) {
            Rotate(shape.num_q_heads, shape, shape.q_norm, begin, end, Floats(q) + begin * q_row);
            Rotate(shape.num_kv_heads, shape, shape.k_norm, begin, end,
                   Floats(k) + begin * kv_row);
            for (int64_t t = begin; t < end; ++t) {
              StoreKeyAndValue(Floats(k) + t * kv_row, Floats(v) + t * kv_row, block_tables_[t],
                               positions_[t], cache);
            }
          });
  }

  void Attention(const Activation* q, const AttentionShape& shape, const KvCacheView& cache,
                 int64_t n, Activation* out) override {
    assert(shape.head_dim == cache.head_dim && cache.keys_by_dim);
    if (n <= 0) return;
    const AttentionArgs args = {Floats(q), shape, cache, Floats(out)};
    CutIntoTiles(shape);
    // A few tokens far into their sequences are too few tiles for the threads: their chunks are
    // dealt out instead.
    const auto tiles = static_cast<int64_t>(tiles_.size());
    if (pool_.threads() > 1 && tiles < int64_t{4} * pool_.threads() && HasLongTile(shape)) {
      AttendByChunk(args);
    } else {
      AttendByTile(args);
    }
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
  // One input in the forms that its products want.
  struct Prepared {
    const uint8_t* forms[kNumInputForms] = {};
  };

  ProductArgs Arguments(const WeightMatrix& w, const Activation* x, int64_t n, const float* bias,
                        float* out, Prepared& prepared) {
    assert(w.cols % BlockElements(w.dtype) == 0);
    const InputForm form = ops_.input_form(w.dtype);
    const uint8_t*& input = prepared.forms[static_cast<int>(form)];
    if (input == nullptr) input = Prepare(form, Floats(x), w.cols, n);
    return {.w = reinterpret_cast<const uint8_t*>(w.data),
            .dtype = w.dtype,
            .rows = w.rows,
            .cols = w.cols,
            .form = form,
            .input = input,
            .bias = bias,
            .n = n,
            .out = out};
  }

  const uint8_t* Prepare(InputForm form, const float* x, int64_t cols, int64_t n) {
    uint8_t* prepared = inputs_[static_cast<int>(form)].Get<uint8_t>(InputBytes(form, cols, n));
    Split(n, kTokenTile, n * cols >= kMinParallelElements, [&](int64_t begin, int64_t end, int) {
      ops_.prepare_input(form, x, cols, n, begin, end, prepared);
    });
    return prepared;
  }

  // All products_, of one input of n tokens, as if they were one matrix.
  void Multiply(int64_t n) {
    int64_t groups = 0, macs = 0;
    for (const ProductArgs& args : products_) {
      groups += GroupsOf(args);
      macs += args.rows * args.cols * n;
    }
    const int parts_per_thread = n <= kFewTokens ? 1 : kPartsPerThread;
    Split(groups, 1, macs >= kMinParallelMacs, parts_per_thread,
          [&](int64_t begin, int64_t end, int thread) {
            for (const ProductArgs& args : products_) {
              const int64_t own = GroupsOf(args);
              const int64_t first = std::max<int64_t>(begin, 0);
              const int64_t last = std::min(end, own);
              if (first < last) {
                uint8_t* scratch = scratch_[thread].Get<uint8_t>(ops_.multiply_scratch(args));
                ops_.multiply(args, first, last, scratch);
              }
              begin -= own;
              end -= own;
            }
          });
  }

  // Every product added up in float64, for cuts that fall anywhere. Slow.
  void MultiplyInDoubles(const WeightMatrix& w, const float* x, int64_t n, double* out) {
    Split(w.rows, 1, w.rows * w.cols * n >= kMinParallelMacs,
          [&](int64_t begin, int64_t end, int thread) {
            float* row = scratch_[thread].Get<float>(w.cols);
            for (int64_t r = begin; r < end; ++r) {
              UnpackRow(w.dtype, w.data, w.cols, r, row);
              for (int64_t t = 0; t < n; ++t) {
                double sum = 0;
                for (int64_t c = 0; c < w.cols; ++c) {
                  sum += static_cast<double>(row[c]) * x[t * w.cols + c];
                }
                out[t * w.rows + r] = sum;
              }
            }
          });
  }

  static int64_t GroupsOf(const ProductArgs& args) {
    return (args.rows + kGroupRows - 1) / kGroupRows;
  }

  // Heads of the step's tokens [begin, end). x: (end - begin, heads, head_dim).
  void Rotate(int heads, const AttentionShape& shape, const float* norm, int64_t begin, int64_t end,
              float* x) {
    if (norm != nullptr) {
      ops_.rms_norm(x, norm, shape.norm_eps, (end - begin) * heads, shape.head_dim, x);
    }
    ops_.rope(step_.rope, begin, end - begin, heads, shape.head_dim, x);
  }

  struct Chunks {
    int begin;
    int end;
    int count() const { return end - begin; }
  };
  static Chunks ChunksOf(const AttentionShape& shape, const AttentionTile& tile) {
    const int last = tile.start_position + tile.num_tokens - 1;
    const int window = shape.sliding_window;
    const int first = window > 0 ? std::max(0, tile.start_position - window + 1) : 0;
    return {first / kAttentionChunk, last / kAttentionChunk + 1};
  }

  bool HasLongTile(const AttentionShape& shape) const {
    for (const AttentionTile& tile : tiles_) {
      if (ChunksOf(shape, tile).count() > 1) return true;
    }
    return false;
  }

  // The step's tokens and heads as tiles_.
  void CutIntoTiles(const AttentionShape& shape) {
    tiles_.clear();
    const std::vector<int> groups = HeadGroups(shape);  // group g: heads [groups[g], groups[g + 1])
    for (int64_t s = 0; s < step_.num_sequences; ++s) {
      const SequenceSpan& span = step_.sequences[s];
      for (size_t g = 0; g + 1 < groups.size(); ++g) {
        const int heads = std::min(groups[g + 1] - groups[g], kAttentionTileRows);
        const int tokens = std::max(1, kAttentionTileRows / heads);
        for (int head = groups[g]; head < groups[g + 1]; head += heads) {
          for (int t = 0; t < span.num_tokens; t += tokens) {
            tiles_.push_back({.first_token = span.first_token + t,
                              .num_tokens = std::min(tokens, span.num_tokens - t),
                              .start_position = span.start_position + t,
                              .block_table = span.block_table,
                              .head_begin = head,
                              .head_end = std::min(head + heads, groups[g + 1])});
          }
        }
      }
    }
  }

  void AttendByTile(const AttentionArgs& args) {
    int64_t macs = 0;
    for (const AttentionTile& tile : tiles_) {
      macs += int64_t{2} * tile.rows() * (tile.start_position + 1) * args.shape.head_dim;
    }
    const auto count = static_cast<int64_t>(tiles_.size());
    Split(count, 1, macs >= kMinParallelMacs, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) {
        const AttentionTile& tile = tiles_[i];
        const int64_t state_floats = 2 * ops_.attention_state(tile.rows(), args.shape.head_dim);
        float* state = scratch_[thread].Get<float>(state_floats + ops_.attention_scratch());
        const Chunks chunks = ChunksOf(args.shape, tile);
        ops_.attention(args, tile, chunks.begin, chunks.end, state, state + state_floats);
        ops_.attention_finish(args, tile, state);
      }
    });
  }

  void AttendByChunk(const AttentionArgs& args) {
    struct Part {
      const AttentionTile* tile;
      int chunk;
      int64_t state;  // where in states_
    };
    std::vector<Part> parts;
    int64_t floats = 0;
    for (const AttentionTile& tile : tiles_) {
      const Chunks chunks = ChunksOf(args.shape, tile);
      for (int chunk = chunks.begin; chunk < chunks.end; ++chunk) {
        parts.push_back({&tile, chunk, floats});
        floats += ops_.attention_state(tile.rows(), args.shape.head_dim);
      }
    }
    float* states = states_.Get<float>(floats);
    Split(static_cast<int64_t>(parts.size()), 1, true, [&](int64_t begin, int64_t end, int thread) {
      float* scratch = scratch_[thread].Get<float>(ops_.attention_scratch());
      for (int64_t i = begin; i < end; ++i) {
        ops_.attention(args, *parts[i].tile, parts[i].chunk, parts[i].chunk + 1,
                       states + parts[i].state, scratch);
      }
    });
    for (size_t i = 0; i < parts.size();) {
      const AttentionTile* tile = parts[i].tile;
      float* state = states + parts[i].state;
      for (++i; i < parts.size() && parts[i].tile == tile; ++i) {
        ops_.attention_merge(args, *tile, states + parts[i].state, state);
      }
      ops_.attention_finish(args, *tile, state);
    }
  }

  // Where runs of query heads that read the same KV head begin, and the number of heads at the end.
  static std::vector<int> HeadGroups(const AttentionShape& shape) {
    std::vector<int> groups;
    for (int h = 0; h < shape.num_q_heads; ++h) {
      if (h == 0 || shape.kv_head_of[h] != shape.kv_head_of[h - 1]) groups.push_back(h);
    }
    groups.push_back(shape.num_q_heads);
    return groups;
  }

  // work(begin, end, thread) over [0, count) in pieces of a multiple of `granularity`.
  template <typename Work>
  void Split(int64_t count, int64_t granularity, bool parallel, const Work& work) {
    Split(count, granularity, parallel, kPartsPerThread, work);
  }
  template <typename Work>
  void Split(int64_t count, int64_t granularity, bool parallel, int parts_per_thread,
             const Work& work) {
    const int threads = pool_.threads();
    if (count <= 0) return;
    if (threads == 1 || !parallel) return work(0, count, 0);
    const int64_t units = (count + granularity - 1) / granularity;
    const int parts = static_cast<int>(std::min<int64_t>(units, threads * parts_per_thread));
    pool_.Run(parts, [&](int part, int thread) {
      const int64_t begin = units * part / parts * granularity;
      const int64_t end = std::min(count, units * (part + 1) / parts * granularity);
      work(begin, end, thread);
    });
  }

  const OpsTable& ops_;
  const DType kv_type_;
  PieceAllocator memory_;
  ThreadPool pool_;
  std::vector<Scratch> scratch_;  // one per thread
  Scratch inputs_[kNumInputForms];
  std::vector<ProductArgs> products_;
  StepView step_;
  std::vector<int32_t> positions_;           // of the step's tokens
  std::vector<const int32_t*> block_tables_;  // likewise
  std::vector<AttentionTile> tiles_;
  Scratch states_;
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
    return absl::InvalidArgumentError(absl::StrCat(
        "cpu device: keys and values kept as ", std::string(DTypeName(options.kv_type)),
        ", expected F32 or BF16"));
  }
  absl::StatusOr<const OpsTable*> table = ChooseTable(options.instruction_set);
  if (!table.ok()) return table.status();
  return std::make_unique<CpuDevice>(**table, options);
}

}  // namespace tessera::kernels::cpu
