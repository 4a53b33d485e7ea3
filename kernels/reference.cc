#include "kernels/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>

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
  }
  return 0;
}

}  // namespace

void DequantizeRow(DType dtype, const void* row, int64_t begin, int64_t end, float* out) {
  const auto* bytes = static_cast<const uint8_t*>(row);
  const int elements = BlockElements(dtype);
  for (int64_t i = begin; i < end; ++i) {
    const uint8_t* block = bytes + BlockBytes(dtype) * static_cast<size_t>(i / elements);
    out[i - begin] = Element(dtype, block, static_cast<int>(i % elements));
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

std::vector<double> Rope(const RopeTable& table, const int32_t* positions, int64_t n, int heads,
                         int head_dim, const float* x) {
  std::vector<double> out(x, x + n * heads * head_dim);
  const int pairs = table.rope_dim / 2;
  for (int64_t t = 0; t < n; ++t) {
    for (int h = 0; h < heads; ++h) {
      double* head = out.data() + (t * heads + h) * head_dim;
      for (int i = 0; i < pairs; ++i) {
        const double cos = table.cos[static_cast<int64_t>(positions[t]) * pairs + i];
        const double sin = table.sin[static_cast<int64_t>(positions[t]) * pairs + i];
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

std::vector<double> Attention(const float* q, const TokenPlacement& where,
                              const AttentionShape& shape, const KvCacheView& cache, int64_t n) {
  const int dim = shape.head_dim;
  std::vector<double> out(n * shape.num_q_heads * dim);
  const auto row_of = [&](const float* base, int64_t t, int kv_head, int position) {
    const int64_t block = where.block_tables[t][position / cache.block_tokens];
    const int64_t slot = position % cache.block_tokens;
    return base + ((block * cache.num_kv_heads + kv_head) * cache.block_tokens + slot) * dim;
  };
  for (int64_t t = 0; t < n; ++t) {
    const int last = where.positions[t];
    const int first = shape.sliding_window > 0 ? std::max(0, last - shape.sliding_window + 1) : 0;
    for (int h = 0; h < shape.num_q_heads; ++h) {
      const float* query = q + (t * shape.num_q_heads + h) * dim;
      double* result = out.data() + (t * shape.num_q_heads + h) * dim;
      std::vector<double> scores;
      for (int p = first; p <= last; ++p) {
        const float* key = row_of(cache.keys, t, shape.kv_head_of[h], p);
        double dot = 0;
        for (int d = 0; d < dim; ++d) dot += static_cast<double>(query[d]) * key[d];
        scores.push_back(dot * shape.scale);
      }
      const double highest = *std::max_element(scores.begin(), scores.end());
      double sum = 0;
      for (double& score : scores) sum += score = std::exp(score - highest);
      for (int p = first; p <= last; ++p) {
        const float* value = row_of(cache.values, t, shape.kv_head_of[h], p);
        for (int d = 0; d < dim; ++d) result[d] += scores[p - first] / sum * value[d];
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
