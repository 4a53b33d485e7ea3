#include "kernels/cpu/cpu_device.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/cpu/kv_store.h"
#include "kernels/cpu/ops.h"
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
constexpr int64_t kRowGranularity = 8;

bool HasAvx2() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

bool HasAvx512() {
#if defined(__x86_64__)
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
  return false;
#endif
}

std::vector<const OpsTable*> AvailableTables() {
  std::vector<const OpsTable*> tables = {&scalar::kOps};
#if defined(__x86_64__)
  if (HasAvx2()) tables.push_back(&avx2::kOps);
  if (HasAvx512()) tables.push_back(&avx512::kOps);
#endif
  return tables;
}

absl::StatusOr<const OpsTable*> ChooseTable(const std::string& instruction_set) {
  const std::vector<const OpsTable*> tables = AvailableTables();
  if (instruction_set == "auto") return tables.back();
  for (const OpsTable* table : tables) {
    if (instruction_set == table->name) return table;
  }
  const bool known = instruction_set == "avx2" || instruction_set == "avx512";
  const std::string message = absl::StrCat(
      "cpu device: instruction set '", instruction_set,
      known ? "' is not on this machine; it has: " : "' is unknown; expected one of: ",
      known ? absl::StrJoin(AvailableInstructionSets(), ", ") : "auto, scalar, avx2, avx512");
  if (known) return absl::UnimplementedError(message);
  return absl::InvalidArgumentError(message);
}

void FreeAligned(std::byte* p) { std::free(p); }

// Grows, never shrinks; what it held is lost when it grows.
class Scratch {
 public:
  float* Get(int64_t floats) {
    if (floats > size_) {
      const size_t bytes = (floats * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
      data_.reset(static_cast<float*>(std::aligned_alloc(kAlignment, bytes)));
      if (data_ == nullptr) throw std::bad_alloc();
      size_ = floats;
    }
    return data_.get();
  }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
  int64_t size_ = 0;
};

class CpuDevice final : public Device {
 public:
  CpuDevice(const OpsTable& ops, int threads) : ops_(ops), pool_(threads), scratch_(threads) {}

  std::string Name() const override { return absl::StrCat("cpu ", ops_.name); }

  absl::StatusOr<Buffer> Allocate(size_t bytes) override {
    const size_t rounded = std::max(bytes + kAlignment - 1, kAlignment) / kAlignment * kAlignment;
    void* data = rounded < bytes ? nullptr : std::aligned_alloc(kAlignment, rounded);
    if (data == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cpu device: no memory for a buffer of ", bytes, " bytes"));
    }
    return Buffer(static_cast<std::byte*>(data), &FreeAligned);
  }

  absl::Status Sync() override { return absl::OkStatus(); }

  void Embed(const MatrixView& table, const int32_t* ids, int64_t first_row, int64_t n,
             float* out) override {
    Split(n, 1, n * table.cols >= kMinParallelElements, [&](int64_t begin, int64_t end, int) {
      ops_.embed(table, ids + begin, first_row, end - begin, out + begin * table.cols);
    });
  }

  void RmsNorm(const float* x, const float* weight, float eps, int64_t rows, int64_t cols,
               float* out) override {
    Split(rows, 1, rows * cols >= kMinParallelElements, [&](int64_t begin, int64_t end, int) {
      ops_.rms_norm(x + begin * cols, weight, eps, end - begin, cols, out + begin * cols);
    });
  }

  void MatMul(const MatrixView& w, const float* x, const float* bias, int64_t n,
              float* out) override {
    assert(w.cols % BlockElements(w.dtype) == 0);
    if (n <= 0) return;
    const MatMulArgs args = {w, x, bias, n, out};
    const int64_t scratch_floats = ops_.matmul_scratch(args);
    Split(w.rows, kRowGranularity, w.rows * w.cols * n >= kMinParallelMacs,
          [&](int64_t begin, int64_t end, int thread) {
            ops_.matmul(args, begin, end, scratch_[thread].Get(scratch_floats));
          });
  }

  void Rope(const RopeTable& table, const int32_t* positions, int64_t n, int heads, int head_dim,
            float* x) override {
    assert(table.rope_dim <= head_dim);
    const int64_t token_floats = static_cast<int64_t>(heads) * head_dim;
    Split(n, 1, n * token_floats >= kMinParallelElements, [&](int64_t begin, int64_t end, int) {
      ops_.rope(table, positions + begin, end - begin, heads, head_dim, x + begin * token_floats);
    });
  }

  void StoreKv(const float* k, const float* v, const TokenPlacement& where, int64_t n,
               const KvCacheView& cache) override {
    StoreRows(k, where, n, cache, cache.keys);
    StoreRows(v, where, n, cache, cache.values);
  }

  void CopyKvBlock(const KvCacheView& cache, int source, int destination) override {
    CopyBlock(cache, source, destination, cache.keys);
    CopyBlock(cache, source, destination, cache.values);
  }

  void Attention(const float* q, const TokenPlacement& where, const AttentionShape& shape,
                 const KvCacheView& cache, int64_t n, float* out) override {
    assert(shape.head_dim == cache.head_dim);
    const AttentionArgs args = {q, where, shape, cache, out};
    const std::vector<int> groups = HeadGroups(shape);  // group g: heads [groups[g], groups[g + 1])
    const int64_t num_groups = static_cast<int64_t>(groups.size()) - 1;
    int64_t macs = 0;
    for (int64_t t = 0; t < n; ++t) {
      macs += int64_t{2} * Positions(where, shape, t) * shape.num_q_heads * shape.head_dim;
    }
    Split(n * num_groups, 1, macs >= kMinParallelMacs, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t token = item / num_groups;
        const int head_begin = groups[item % num_groups];
        const int head_end = groups[item % num_groups + 1];
        const int64_t floats =
            ops_.attention_scratch(head_end - head_begin, Positions(where, shape, token));
        ops_.attention(args, token, head_begin, head_end, scratch_[thread].Get(floats));
      }
    });
  }

  void SiluMul(const float* gate, const float* up, int64_t count, float* out) override {
    Split(count, kAlignment, count >= kMinParallelElements, [&](int64_t begin, int64_t end, int) {
      ops_.silu_mul(gate + begin, up + begin, end - begin, out + begin);
    });
  }

  void Add(const float* y, int64_t count, float* x) override {
    Split(count, kAlignment, count >= 4 * kMinParallelElements,
          [&](int64_t begin, int64_t end, int) { ops_.add(y + begin, end - begin, x + begin); });
  }

 private:
  static int64_t Positions(const TokenPlacement& where, const AttentionShape& shape,
                           int64_t token) {
    const int64_t all = int64_t{where.positions[token]} + 1;
    return shape.sliding_window > 0 ? std::min<int64_t>(all, shape.sliding_window) : all;
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
    const int threads = pool_.threads();
    if (count <= 0) return;
    if (threads == 1 || !parallel) return work(0, count, 0);
    const int64_t units = (count + granularity - 1) / granularity;
    const int parts = static_cast<int>(std::min<int64_t>(units, threads * kPartsPerThread));
    pool_.Run(parts, [&](int part, int thread) {
      const int64_t begin = units * part / parts * granularity;
      const int64_t end = std::min(count, units * (part + 1) / parts * granularity);
      work(begin, end, thread);
    });
  }

  const OpsTable& ops_;
  ThreadPool pool_;
  std::vector<Scratch> scratch_;  // one per thread
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
  absl::StatusOr<const OpsTable*> table = ChooseTable(options.instruction_set);
  if (!table.ok()) return table.status();
  return std::make_unique<CpuDevice>(**table, options.threads);
}

}  // namespace tessera::kernels::cpu
