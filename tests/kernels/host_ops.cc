#include "tests/kernels/host_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "kernels/half.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels {
namespace {

void Check(const absl::Status& status) { ASSERT_TRUE(status.ok()) << status; }

std::vector<std::byte> RandomKept(DType type, int64_t count, std::mt19937& random) {
  const std::vector<float> values = RandomFloats(count, random);
  std::vector<std::byte> bytes(RowBytes(type, count));
  if (type == DType::kF32) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  auto* out = reinterpret_cast<uint16_t*>(bytes.data());
  for (float value : values) *out++ = FloatToBFloat16(value);
  return bytes;
}

}  // namespace

void OwnedStep::AddSequence(int32_t start_position, std::vector<int32_t> ids,
                            std::vector<int32_t> blocks) {
  sequences_.push_back({.first_token = static_cast<int32_t>(ids_.size()),
                        .num_tokens = static_cast<int32_t>(ids.size()),
                        .start_position = start_position});
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  blocks_.push_back(std::move(blocks));
}

void OwnedStep::SetRope(int rope_dim, bool interleaved, std::vector<float> cos,
                        std::vector<float> sin) {
  rope_dim_ = rope_dim;
  interleaved_ = interleaved;
  cos_ = std::move(cos);
  sin_ = std::move(sin);
}

StepView OwnedStep::view() const {
  for (size_t i = 0; i < sequences_.size(); ++i) {
    sequences_[i].block_table = blocks_[i].data();
    sequences_[i].num_blocks = static_cast<int32_t>(blocks_[i].size());
  }
  return {.n = n(),
          .ids = ids_.data(),
          .sequences = sequences_.data(),
          .num_sequences = static_cast<int64_t>(sequences_.size()),
          .rope = {cos_.data(), sin_.data(), rope_dim_, interleaved_}};
}

std::vector<float> HostOps::Rounded(const std::vector<float>& x) const {
  std::vector<float> rounded = x;
  if (!exact()) {
    for (float& value : rounded) value = BFloat16ToFloat(FloatToBFloat16(value));
  }
  return rounded;
}

template <typename T>
HostOps::On<T> HostOps::Reserve(size_t bytes) const {
  auto buffer = device_->Allocate(bytes);
  if (!buffer.ok()) {
    ADD_FAILURE() << buffer.status();
    return {Device::Buffer(nullptr, [](std::byte*) {})};
  }
  return {*std::move(buffer)};
}

HostOps::On<Activation> HostOps::Space(int64_t count) const {
  return Reserve<Activation>(RowBytes(device_->ActivationType(), count));
}

HostOps::On<Activation> HostOps::Upload(const std::vector<float>& x) const {
  const auto count = static_cast<int64_t>(x.size());
  On<Activation> on = Space(count);
  Check(device_->WriteActivations(x.data(), count, on.get()));
  return on;
}

HostOps::On<Partial> HostOps::UploadPartials(const std::vector<float>& x) const {
  const std::vector<double> doubles(x.begin(), x.end());
  const auto count = static_cast<int64_t>(x.size());
  On<Partial> on = Reserve<Partial>(device_->PartialBytes(count));
  Check(device_->WritePartials(doubles.data(), count, on.get()));
  return on;
}

HostOps::On<float> HostOps::UploadFloats(const std::vector<float>& x) const {
  On<float> on = Reserve<float>(x.size() * sizeof(float));
  Check(device_->WriteBytes(x.data(), x.size() * sizeof(float), on.get()));
  return on;
}

HostOps::On<std::byte> HostOps::UploadBytes(const std::vector<std::byte>& bytes) const {
  On<std::byte> on = Reserve<std::byte>(bytes.size());
  Check(device_->WriteBytes(bytes.data(), bytes.size(), on.get()));
  return on;
}

std::pair<HostOps::On<std::byte>, WeightMatrix> HostOps::UploadWeights(const MatrixView& w) const {
  On<std::byte> on = Reserve<std::byte>(device_->WeightBytes(w.dtype, w.rows, w.cols));
  const WeightMatrix matrix{on.get(), w.dtype, w.rows, w.cols};
  // In two pieces where the device lets a matrix be written so, as a loader would.
  const int64_t group = device_->WeightRowGranularity();
  const int64_t half = std::min(w.rows, (w.rows / 2 + group - 1) / group * group);
  const auto* rows = static_cast<const std::byte*>(w.data);
  Check(device_->WriteWeights(matrix, 0, half, rows));
  if (half < w.rows) {
    Check(device_->WriteWeights(matrix, half, w.rows - half,
                                rows + half * RowBytes(w.dtype, w.cols)));
  }
  return {std::move(on), matrix};
}

std::vector<float> HostOps::Download(const Activation* x, int64_t count) const {
  std::vector<float> out(count);
  Check(device_->ReadActivations(x, count, out.data()));
  return out;
}

int64_t HostOps::Begin(const OwnedStep& step, const AttentionShape& shape) {
  StepView view = step.view();
  for (int h = 0; h < shape.num_q_heads; ++h) {
    const auto in_group =
        std::count(shape.kv_head_of, shape.kv_head_of + shape.num_q_heads, shape.kv_head_of[h]);
    view.largest_group = std::max(view.largest_group, static_cast<int>(in_group));
  }
  view.sliding_window = shape.sliding_window;
  auto rows = device_->BeginStep(view);
  EXPECT_TRUE(rows.ok()) << rows.status();
  return rows.ok() ? *rows : 0;
}

std::vector<float> HostOps::MatMul(const MatrixView& w, const std::vector<float>& x,
                                   const std::vector<float>& bias, int64_t n) {
  const auto [memory, matrix] = UploadWeights(w);
  const On<Activation> in = Upload(x);
  const On<Activation> out = Upload(std::vector<float>(n * w.rows, -1e30f));
  const On<float> added = UploadFloats(bias);
  device_->MatMul({{matrix, bias.empty() ? nullptr : added.get(), out.get()}}, in.get(), n);
  return Download(out.get(), n * w.rows);
}

std::vector<std::vector<float>> HostOps::MatMuls(const std::vector<MatrixView>& w,
                                                 const std::vector<float>& x, int64_t n) {
  std::vector<On<std::byte>> memory;
  std::vector<On<Activation>> outs;
  std::vector<Product> products;
  for (const MatrixView& one : w) {
    auto [on, matrix] = UploadWeights(one);
    memory.push_back(std::move(on));
    outs.push_back(Space(n * one.rows));
    products.push_back({matrix, nullptr, outs.back().get()});
  }
  const On<Activation> in = Upload(x);
  device_->MatMul(products, in.get(), n);
  std::vector<std::vector<float>> results;
  for (size_t i = 0; i < w.size(); ++i) {
    results.push_back(Download(outs[i].get(), n * w[i].rows));
  }
  return results;
}

std::vector<double> HostOps::MatMulPartial(const MatrixView& w, const std::vector<float>& x,
                                           int64_t n, int segment) {
  const auto [memory, matrix] = UploadWeights(w);
  const On<Activation> in = Upload(x);
  const On<Partial> out = Reserve<Partial>(device_->PartialBytes(n * w.rows));
  device_->MatMulPartial(matrix, in.get(), n, segment, out.get());
  std::vector<double> sums(n * w.rows);
  Check(device_->ReadPartials(out.get(), n * w.rows, sums.data()));
  return sums;
}

std::vector<float> HostOps::Logits(const MatrixView& w, const std::vector<float>& x, int64_t n) {
  const auto [memory, matrix] = UploadWeights(w);
  const On<Activation> in = Upload(x);
  const On<float> out = Reserve<float>(n * w.rows * sizeof(float));
  device_->Logits(matrix, in.get(), n, out.get());
  auto floats = device_->ReadFloats(out.get(), n * w.rows);
  EXPECT_TRUE(floats.ok()) << floats.status();
  return floats.ok() ? std::vector<float>(*floats, *floats + n * w.rows) : std::vector<float>();
}

std::vector<float> HostOps::Embed(const MatrixView& table, const std::vector<int32_t>& ids,
                                  int64_t first_row, float scale) {
  const auto [memory, matrix] = UploadWeights(table);
  OwnedStep step;
  step.AddSequence(0, ids, std::vector<int32_t>(ids.size() / 16 + 1, 0));
  Begin(step);
  const On<Activation> out = Upload(std::vector<float>(ids.size() * table.cols, 7.0f));
  device_->Embed(matrix, first_row, scale, step.n(), out.get());
  return Download(out.get(), step.n() * table.cols);
}

std::vector<float> HostOps::RmsNorm(const std::vector<float>& x, const std::vector<float>& weight,
                                    float eps, int64_t rows, int64_t cols, bool in_place) {
  const On<Activation> in = Upload(x);
  const On<float> scale = UploadFloats(weight);
  const On<Activation> out = Space(rows * cols);
  Activation* to = in_place ? in.get() : out.get();
  device_->RmsNorm(in.get(), scale.get(), eps, rows, cols, to);
  return Download(to, rows * cols);
}

std::pair<std::vector<float>, std::vector<float>> HostOps::AddRmsNorm(
    const std::vector<float>& y, const std::vector<float>& weight, float eps, int64_t rows,
    int64_t cols, const std::vector<float>& x, float by) {
  const On<Partial> added = UploadPartials(y);
  const On<Activation> sum = Upload(x);
  const On<float> scale = UploadFloats(weight);
  const On<Activation> out = Space(rows * cols);
  device_->AddRmsNorm(added.get(), by, scale.get(), eps, rows, cols, sum.get(), out.get());
  return {Download(sum.get(), rows * cols), Download(out.get(), rows * cols)};
}

std::vector<float> HostOps::AddNormed(const std::vector<float>& y, float scale,
                                      const std::vector<float>& weight, float eps, int64_t rows,
                                      int64_t cols, const std::vector<float>& x) {
  const On<Partial> added = UploadPartials(y);
  const On<Activation> sum = Upload(x);
  const On<float> factors = UploadFloats(weight);
  device_->AddNormed(added.get(), scale, factors.get(), eps, rows, cols, sum.get());
  return Download(sum.get(), rows * cols);
}

std::vector<std::vector<float>> HostOps::RmsNormInParts(const std::vector<float>& x,
                                                        const std::vector<float>& weight, float eps,
                                                        int64_t rows, int64_t cols,
                                                        const std::vector<ColumnPart>& parts) {
  // The ranks' sums are added up as their link does: in double where the device's are, else float.
  const size_t bytes = device_->SquareSumBytes(rows);
  const bool doubles = bytes == static_cast<size_t>(rows) * sizeof(double);
  std::vector<double> totals(rows);
  std::vector<float> float_totals(rows);
  std::vector<On<Activation>> uploaded;
  for (const ColumnPart& part : parts) {
    const int64_t width = part.to - part.from;
    std::vector<float> own;
    for (int64_t r = 0; r < rows; ++r) {
      own.insert(own.end(), &x[r * cols + part.from], &x[r * cols + part.from] + width);
    }
    uploaded.push_back(Upload(own));
    const On<SquareSum> sums = Reserve<SquareSum>(bytes);
    device_->SumSquares(uploaded.back().get(), rows, width, part.sum_from - part.from,
                        part.sum_to - part.from, sums.get());
    std::vector<double> as_doubles(rows);
    std::vector<float> as_floats(rows);
    void* const to = doubles ? static_cast<void*>(as_doubles.data()) : as_floats.data();
    Check(device_->ReadBytes(sums.get(), bytes, to));
    for (int64_t r = 0; r < rows; ++r) {
      totals[r] += as_doubles[r];
      float_totals[r] += as_floats[r];
    }
  }
  const On<SquareSum> sums = Reserve<SquareSum>(bytes);
  const void* const from = doubles ? static_cast<const void*>(totals.data()) : float_totals.data();
  Check(device_->WriteBytes(from, bytes, sums.get()));
  std::vector<std::vector<float>> normed;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t width = parts[i].to - parts[i].from;
    const On<float> factors =
        UploadFloats({&weight[parts[i].from], &weight[parts[i].from] + width});
    device_->NormalizeBySums(sums.get(), cols, factors.get(), eps, rows, width,
                             uploaded[i].get());
    normed.push_back(Download(uploaded[i].get(), rows * width));
  }
  return normed;
}

std::vector<float> HostOps::SiluMul(const std::vector<float>& gate, const std::vector<float>& up,
                                    bool in_place) {
  const auto count = static_cast<int64_t>(gate.size());
  const On<Activation> left = Upload(gate);
  const On<Activation> right = Upload(up);
  const On<Activation> out = Space(count);
  Activation* to = in_place ? left.get() : out.get();
  device_->SiluMul(left.get(), right.get(), count, to);
  return Download(to, count);
}

std::vector<float> HostOps::Add(const std::vector<float>& y, const std::vector<float>& x,
                                float scale) {
  const auto count = static_cast<int64_t>(x.size());
  const On<Partial> added = UploadPartials(y);
  const On<Activation> sum = Upload(x);
  device_->Add(added.get(), scale, count, sum.get());
  return Download(sum.get(), count);
}

std::vector<float> HostOps::GatherRows(const std::vector<float>& x,
                                       const std::vector<int64_t>& rows, int64_t cols) {
  const On<Activation> in = Upload(x);
  const auto count = static_cast<int64_t>(rows.size()) * cols;
  const On<Activation> out = Space(count);
  device_->GatherRows(in.get(), rows, cols, out.get());
  return Download(out.get(), count);
}

HostCache HostOps::RandomCache(int num_blocks, int num_kv_heads, int block_tokens, int head_dim,
                               uint32_t seed) const {
  std::mt19937 random(seed);
  const int64_t count = int64_t{num_blocks} * num_kv_heads * block_tokens * head_dim;
  HostCache cache;
  cache.keys = RandomKept(device_->KvType(), count, random);
  cache.values = RandomKept(device_->KvType(), count, random);
  cache.view = {.keys = cache.keys.data(),
                .values = cache.values.data(),
                .type = device_->KvType(),
                .layout = device_->CacheLayout(),
                .num_blocks = num_blocks,
                .num_kv_heads = num_kv_heads,
                .block_tokens = block_tokens,
                .head_dim = head_dim};
  return cache;
}

HostOps::Turned HostOps::RotateAndStore(const OwnedStep& step, AttentionShape shape,
                                        const HostCache& cache, const std::vector<float>& q,
                                        const std::vector<float>& k, const std::vector<float>& v,
                                        const std::vector<float>& q_norm,
                                        const std::vector<float>& k_norm) {
  const On<Activation> queries = Upload(q);
  const On<Activation> keys = Upload(k);
  const On<Activation> values = Upload(v);
  const On<float> q_scale = UploadFloats(q_norm);
  const On<float> k_scale = UploadFloats(k_norm);
  const On<std::byte> kept_keys = UploadBytes(cache.keys);
  const On<std::byte> kept_values = UploadBytes(cache.values);
  if (!q_norm.empty()) shape.q_norm = q_scale.get();
  if (!k_norm.empty()) shape.k_norm = k_scale.get();
  KvCacheView view = cache.view;
  view.keys = kept_keys.get();
  view.values = kept_values.get();
  Begin(step, shape);
  device_->RotateAndStore(shape, view, step.n(), queries.get(), keys.get(), values.get());
  Turned turned{Download(queries.get(), static_cast<int64_t>(q.size())),
                Download(keys.get(), static_cast<int64_t>(k.size())), cache};
  Check(device_->ReadBytes(view.keys, cache.keys.size(), turned.cache.keys.data()));
  Check(device_->ReadBytes(view.values, cache.values.size(), turned.cache.values.data()));
  turned.cache.view.keys = turned.cache.keys.data();
  turned.cache.view.values = turned.cache.values.data();
  return turned;
}

std::vector<float> HostOps::Attention(const OwnedStep& step, const AttentionShape& shape,
                                      const HostCache& cache, const std::vector<float>& q) {
  const On<Activation> queries = Upload(q);
  const On<Activation> out = Upload(std::vector<float>(q.size(), 1e30f));
  const On<std::byte> keys = UploadBytes(cache.keys);
  const On<std::byte> values = UploadBytes(cache.values);
  KvCacheView view = cache.view;
  view.keys = keys.get();
  view.values = values.get();
  Begin(step, shape);
  device_->Attention(queries.get(), shape, view, step.n(), out.get());
  return Download(out.get(), static_cast<int64_t>(q.size()));
}

HostCache HostOps::CopyKvBlock(const HostCache& cache, int source, int destination) {
  const On<std::byte> keys = UploadBytes(cache.keys);
  const On<std::byte> values = UploadBytes(cache.values);
  HostCache copied = cache;
  copied.view.keys = keys.get();
  copied.view.values = values.get();
  device_->CopyKvBlock(copied.view, source, destination);
  Check(device_->ReadBytes(keys.get(), cache.keys.size(), copied.keys.data()));
  Check(device_->ReadBytes(values.get(), cache.values.size(), copied.values.data()));
  copied.view.keys = copied.keys.data();
  copied.view.values = copied.values.data();
  return copied;
}

}  // namespace tessera::kernels
