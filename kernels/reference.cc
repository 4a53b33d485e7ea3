#include "kernels/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/e4m3.h"
#include "kernels/half.h"

namespace tessera::kernels::reference {
namespace {

uint16_t Load16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

float Half(const uint8_t* p) { return HalfToFloat(Load16(p)); }

int Nibble(const uint8_t* nibbles, int j) {
  return j < 16 ? nibbles[j] & 15 : nibbles[j - 16] >> 4;
}

int Bit(const uint8_t* bits, int j) { return bits[j / 8] >> (j % 8) & 1; }

// Element j of the block at `p`, as the grammar in tensor.h says.
float Element(DType dtype, const uint8_t* p, int j) {
  switch (dtype) {
    case DType::kF32: {
      float value;
      std::memcpy(&value, p, sizeof(value));
      return value;
    }
    case DType::kF16:
      return Half(p);
    case DType::kBF16:
      return BFloat16ToFloat(Load16(p));
    case DType::kQ8_0:
      return Half(p) * static_cast<float>(static_cast<int8_t>(p[2 + j]));
    case DType::kQ4_0:
      return Half(p) * static_cast<float>(Nibble(p + 2, j) - 8);
    case DType::kQ4_1:
      return Half(p) * static_cast<float>(Nibble(p + 4, j)) + Half(p + 2);
    case DType::kQ5_0:
      return Half(p) * static_cast<float>(Nibble(p + 6, j) + 16 * Bit(p + 2, j) - 16);
    case DType::kQ5_1:
      return Half(p) * static_cast<float>(Nibble(p + 8, j) + 16 * Bit(p + 4, j)) + Half(p + 2);
    case DType::kQ4_K32: {
      const float scale = Half(p) * static_cast<float>(p[4]);
      const float minimum = Half(p + 2) * static_cast<float>(p[5]);
      return scale * static_cast<float>(Nibble(p + 6, j)) - minimum;
    }
    case DType::kQ5_K32: {
      const float scale = Half(p) * static_cast<float>(p[4]);
      const float minimum = Half(p + 2) * static_cast<float>(p[5]);
      const int q = Nibble(p + 10, j) + 16 * Bit(p + 6, j);
      return scale * static_cast<float>(q) - minimum;
    }
    case DType::kQ6_K32: {
      const float scale = Half(p) * static_cast<float>(static_cast<int8_t>(p[2 + j / 16]));
      const int high = p[20 + j / 4] >> (2 * (j % 4)) & 3;
      return scale * static_cast<float>(Nibble(p + 4, j) + 16 * high - 32);
    }
    case DType::kF8E4M3:
      return E4M3ToFloat(*p);  // times the row's scale
  }
  return 0;
}

}  // namespace

void DequantizeRow(DType dtype, const void* row, int64_t begin, int64_t end, float* out) {
  const auto* bytes = static_cast<const uint8_t*>(row);
  float scale = 1;
  if (RowHeaderBytes(dtype) > 0) std::memcpy(&scale, bytes, sizeof(scale));
  bytes += RowHeaderBytes(dtype);
  const int elements = BlockElements(dtype);
  for (int64_t i = begin; i < end; ++i) {
    const uint8_t* block = bytes + BlockBytes(dtype) * static_cast<size_t>(i / elements);
    out[i - begin] = scale * Element(dtype, block, static_cast<int>(i % elements));
  }
}

std::vector<double> MatMul(const MatrixView& w, const float* x, const float* bias, int64_t n) {
  std::vector<double> out(n * w.rows);
  std::vector<float> row(w.cols);
  const size_t row_bytes = RowBytes(w.dtype, w.cols);
  for (int64_t r = 0; r < w.rows; ++r) {
    DequantizeRow(w.dtype, static_cast<const uint8_t*>(w.data) + r * row_bytes, 0, w.cols,
                  row.data());
    for (int64_t t = 0; t < n; ++t) {
      double sum = bias ? bias[r] : 0.0;
      for (int64_t c = 0; c < w.cols; ++c) {
        sum += static_cast<double>(row[c]) * x[t * w.cols + c];
      }
      out[t * w.rows + r] = sum;
    }
  }
  return out;
}

std::vector<double> RmsNorm(const float* x, const float* weight, double eps, int64_t rows,
                            int64_t cols) {
  std::vector<double> out(rows * cols);
  for (int64_t r = 0; r < rows; ++r) {
    double squares = 0;
    for (int64_t c = 0; c < cols; ++c) {
      squares += static_cast<double>(x[r * cols + c]) * x[r * cols + c];
    }
    const double root = std::sqrt(squares / static_cast<double>(cols) + eps);
    for (int64_t c = 0; c < cols; ++c) out[r * cols + c] = x[r * cols + c] / root * weight[c];
  }
  return out;
}

std::vector<double> AddNormed(const float* y, double scale, const float* weight, double eps,
                              int64_t rows, int64_t cols, const float* x) {
  std::vector<double> out = RmsNorm(y, weight, eps, rows, cols);
  for (int64_t i = 0; i < rows * cols; ++i) out[i] = x[i] + scale * out[i];
  return out;
}

std::vector<double> SumSquares(const float* x, int64_t rows, int64_t cols, int64_t begin,
                               int64_t end) {
  std::vector<double> sums(rows);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = begin; c < end; ++c) {
      sums[r] += static_cast<double>(x[r * cols + c]) * x[r * cols + c];
    }
  }
  return sums;
}

std::vector<double> NormalizeBySums(const double* sums, int64_t width, const float* weight,
                                    double eps, int64_t rows, int64_t cols, const float* x) {
  std::vector<double> out(rows * cols);
  for (int64_t r = 0; r < rows; ++r) {
    const double root = std::sqrt(sums[r] / static_cast<double>(width) + eps);
    for (int64_t c = 0; c < cols; ++c) out[r * cols + c] = x[r * cols + c] / root * weight[c];
  }
  return out;
}

std::vector<double> Rope(const RopeTable& table, int64_t n, int heads, int head_dim,
                         const float* x) {
  std::vector<double> out(x, x + n * heads * head_dim);
  const int pairs = table.rope_dim / 2;
  for (int64_t t = 0; t < n; ++t) {
    for (int h = 0; h < heads; ++h) {
      double* head = out.data() + (t * heads + h) * head_dim;
      for (int i = 0; i < pairs; ++i) {
        const double cos = table.cos[t * pairs + i];
        const double sin = table.sin[t * pairs + i];
        double& first = table.interleaved ? head[2 * i] : head[i];
        double& second = table.interleaved ? head[2 * i + 1] : head[i + pairs];
        const double a = first;
        const double b = second;
        first = a * cos - b * sin;
        second = a * sin + b * cos;
      }
    }
  }
  return out;
}

namespace {

// One query head over positions [first, last] of a sequence.
class HeadContext {
 public:
  const KvCacheView& cache;
  const int32_t* block_table;
  int kv_head;
  int first;
  int last;

  double Key(int position, int d) const {
    return At(cache.keys, position, KeyOffset(cache, position % cache.block_tokens, d));
  }
  double Value(int position, int d) const {
    return At(cache.values, position, ValueOffset(cache, position % cache.block_tokens, d));
  }

 private:
  // `offset`: within the position's block and KV head.
  double At(const void* store, int position, int64_t offset) const {
    const int64_t block = block_table[position / cache.block_tokens];
    const int64_t at = KvHeadOffset(cache, block, kv_head) + offset;
    if (cache.type == DType::kBF16) {
      return BFloat16ToFloat(static_cast<const uint16_t*>(store)[at]);
    }
    return static_cast<const float*>(store)[at];
  }
};

void AttendHead(const HeadContext& context, const float* query, double scale, double* result) {
  const KvCacheView& cache = context.cache;
  std::vector<double> scores;
  for (int p = context.first; p <= context.last; ++p) {
    double dot = 0;
    for (int d = 0; d < cache.head_dim; ++d) dot += query[d] * context.Key(p, d);
    scores.push_back(dot * scale);
  }
  const double highest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - highest);
  for (int p = context.first; p <= context.last; ++p) {
    const double weight = scores[p - context.first] / sum;
    for (int d = 0; d < cache.head_dim; ++d) result[d] += weight * context.Value(p, d);
  }
}

}  // namespace

std::vector<double> Attention(const float* q, const StepView& step, const AttentionShape& shape,
                              const KvCacheView& cache) {
  const int64_t row = int64_t{shape.num_q_heads} * shape.head_dim;
  std::vector<double> out(step.n * row);
  for (int64_t s = 0; s < step.num_sequences; ++s) {
    const SequenceSpan& span = step.sequences[s];
    for (int i = 0; i < span.num_tokens; ++i) {
      const int64_t t = span.first_token + i;
      const int last = span.start_position + i;
      const int first = shape.sliding_window > 0 ? std::max(0, last - shape.sliding_window + 1) : 0;
      for (int h = 0; h < shape.num_q_heads; ++h) {
        const int64_t at = t * row + int64_t{h} * shape.head_dim;
        AttendHead({cache, span.block_table, shape.kv_head_of[h], first, last}, q + at, shape.scale,
                   out.data() + at);
      }
    }
  }
  return out;
}

std::vector<double> SiluMul(const float* gate, const float* up, int64_t count) {
  std::vector<double> out(count);
  for (int64_t i = 0; i < count; ++i) {
    out[i] = gate[i] / (1.0 + std::exp(-static_cast<double>(gate[i]))) * up[i];
  }
  return out;
}

}  // namespace tessera::kernels::reference
