#include "kernels/cpu/isa_ops.h"

namespace tessera::kernels::cpu::TESSERA_ISA {
namespace {

void TurnHalves(const float* cos, const float* sin, int pairs, float* first, float* second) {
  for (int i = 0; i < pairs; ++i) {
    const float a = first[i];
    const float b = second[i];
    first[i] = a * cos[i] - b * sin[i];
    second[i] = a * sin[i] + b * cos[i];
  }
}

void TurnNeighbours(const float* cos, const float* sin, int pairs, float* head) {
  for (int i = 0; i < pairs; ++i) {
    const float a = head[2 * i];
    const float b = head[2 * i + 1];
    head[2 * i] = a * cos[i] - b * sin[i];
    head[2 * i + 1] = a * sin[i] + b * cos[i];
  }
}

}  // namespace

void Rope(const RopeTable& table, int64_t token, int64_t n, int heads, int head_dim, float* x) {
  const int pairs = table.rope_dim / 2;
  for (int64_t t = token; t < token + n; ++t) {
    const float* cos = table.cos + t * pairs;
    const float* sin = table.sin + t * pairs;
    for (int h = 0; h < heads; ++h, x += head_dim) {
      if (table.interleaved) {
        TurnNeighbours(cos, sin, pairs, x);
      } else {
        TurnHalves(cos, sin, pairs, x, x + pairs);
      }
    }
  }
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA
