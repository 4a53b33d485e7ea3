// The warp's matrix instructions, as the PTX manual defines their fragments.
#include "kernels/cuda/simt.h"

namespace tessera::kernels::cuda {
namespace {

float Low(uint32_t pair) { return FloatFromBits(pair << 16); }
float High(uint32_t pair) { return FloatFromBits(pair & 0xffff0000u); }

struct MmaSlot {
  float* c;
  const uint32_t* a;
  uint32_t b[2];
};

void MultiplyTiles(void* const* slots) {
  float a[16][16];
  float b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* slot = static_cast<const MmaSlot*>(slots[lane]);
    const int group = lane / 4;
    const int pair = lane % 4 * 2;
    for (int r = 0; r < 4; ++r) {
      const int row = group + r % 2 * 8;
      const int col = pair + r / 2 * 8;
      a[row][col] = Low(slot->a[r]);
      a[row][col + 1] = High(slot->a[r]);
    }
    for (int r = 0; r < 2; ++r) {
      b[pair + 8 * r][group] = Low(slot->b[r]);
      b[pair + 8 * r + 1][group] = High(slot->b[r]);
    }
  }
  float product[16][8] = {};
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 8; ++j) product[i][j] += a[i][k] * b[k][j];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto* slot = static_cast<const MmaSlot*>(slots[lane]);
    for (int r = 0; r < 4; ++r) slot->c[r] += product[lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2];
  }
}

struct MatrixSlot {
  uint16_t row[8];  // of the matrix this lane names a row of
  uint32_t* out;
};

void Transpose(void* const* slots) {
  for (int lane = 0; lane < 32; ++lane) {
    const auto* slot = static_cast<const MatrixSlot*>(slots[lane]);
    for (int m = 0; m < 4; ++m) {
      const auto element = [&](int row) {
        return uint32_t{static_cast<const MatrixSlot*>(slots[8 * m + row])->row[lane / 4]};
      };
      slot->out[m] = element(lane % 4 * 2) | element(lane % 4 * 2 + 1) << 16;
    }
  }
}

}  // namespace

void Mma16816(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, const char* file,
              int line) {
  MmaSlot slot{c, a, {b0, b1}};
  simt::WarpCollective("Mma16816", file, line, &slot, &MultiplyTiles);
}

void LoadMatrixTransposed(const Shared<BFloat16>& from, int i, uint32_t (&out)[4],
                          const char* file, int line) {
  MatrixSlot slot;
  const Bits<4> row = from.GetBits<4>(i);
  std::memcpy(slot.row, &row, sizeof(slot.row));
  slot.out = out;
  simt::WarpCollective("LoadMatrixTransposed", file, line, &slot, &Transpose);
}

}  // namespace tessera::kernels::cuda
