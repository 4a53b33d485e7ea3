// The tile unit (AMX) in plain C++, put before every file of the instruction set "amx_emulated"
// (-include): its kernels are those of "amx", which then run on any machine with AVX-512 and its
// dot products. What the unit refuses (a tile outside its configured size) stops the program.
//
// Semantics after the instruction set reference: TDPBSSD, TDPBF16PS, TILELOADD, TILESTORED.
#ifndef TESSERA_TESTS_KERNELS_TILE_EMULATION_H_
#define TESSERA_TESTS_KERNELS_TILE_EMULATION_H_

#include <immintrin.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace tessera::kernels::tile_emulation {

struct Tile {
  int rows = 0;
  int row_bytes = 0;
  alignas(64) uint8_t data[16][64];
};

struct TileUnit {
  bool configured = false;
  Tile tiles[8];

  Tile& At(int tile) {
    if (!configured || tiles[tile].rows == 0) std::abort();
    return tiles[tile];
  }
};

static thread_local TileUnit unit;

// Byte 0: palette 1; from 16 on: bytes of a row, two bytes each; from 48 on: rows.
static inline void LoadConfig(const void* config) {
  const auto* bytes = static_cast<const uint8_t*>(config);
  if (bytes[0] != 1) std::abort();
  for (int t = 0; t < 8; ++t) {
    uint16_t row_bytes;
    std::memcpy(&row_bytes, bytes + 16 + 2 * t, sizeof(row_bytes));
    if (row_bytes > 64 || bytes[48 + t] > 16) std::abort();
    unit.tiles[t].row_bytes = row_bytes;
    unit.tiles[t].rows = bytes[48 + t];
    std::memset(unit.tiles[t].data, 0, sizeof(unit.tiles[t].data));
  }
  unit.configured = true;
}

static inline void Release() { unit.configured = false; }

static inline void Zero(int tile) {
  std::memset(unit.At(tile).data, 0, sizeof(unit.At(tile).data));
}

static inline void Load(int tile, const void* from, int64_t stride) {
  Tile& to = unit.At(tile);
  for (int r = 0; r < to.rows; ++r) {
    std::memcpy(to.data[r], static_cast<const uint8_t*>(from) + r * stride, to.row_bytes);
  }
}

static inline void Store(int tile, void* to, int64_t stride) {
  const Tile& from = unit.At(tile);
  for (int r = 0; r < from.rows; ++r) {
    std::memcpy(static_cast<uint8_t*>(to) + r * stride, from.data[r], from.row_bytes);
  }
}

// add(sum, a, b): four bytes of a row of tile a, and of b, onto an element of `sum`.
template <typename Element, typename Add>
static inline void Dot(int sum, int a, int b, const Add& add) {
  Tile& sums = unit.At(sum);
  const Tile& left = unit.At(a);
  const Tile& right = unit.At(b);
  if (left.rows != sums.rows || right.row_bytes != sums.row_bytes ||
      left.row_bytes != 4 * right.rows) {
    std::abort();
  }
  for (int m = 0; m < sums.rows; ++m) {
    for (int k = 0; k < right.rows; ++k) {
      for (int n = 0; n < sums.row_bytes / 4; ++n) {
        Element element;
        std::memcpy(&element, &sums.data[m][4 * n], 4);
        element = add(element, &left.data[m][4 * k], &right.data[k][4 * n]);
        std::memcpy(&sums.data[m][4 * n], &element, 4);
      }
    }
  }
}

static inline void DotSignedBytes(int sum, int a, int b) {
  Dot<int32_t>(sum, a, b, [](int32_t total, const uint8_t* x, const uint8_t* y) {
    for (int i = 0; i < 4; ++i) total += static_cast<int8_t>(x[i]) * static_cast<int8_t>(y[i]);
    return total;
  });
}

static inline void DotBFloat16(int sum, int a, int b) {
  Dot<float>(sum, a, b, [](float total, const uint8_t* x, const uint8_t* y) {
    for (int i = 0; i < 2; ++i) {
      uint32_t bits[2] = {};
      std::memcpy(reinterpret_cast<uint8_t*>(&bits[0]) + 2, x + 2 * i, 2);
      std::memcpy(reinterpret_cast<uint8_t*>(&bits[1]) + 2, y + 2 * i, 2);
      float factors[2];
      std::memcpy(factors, bits, sizeof(factors));
      total += factors[0] * factors[1];
    }
    return total;
  });
}

}  // namespace tessera::kernels::tile_emulation

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#undef _tile_dpbf16ps
#define _tile_loadconfig ::tessera::kernels::tile_emulation::LoadConfig
#define _tile_release ::tessera::kernels::tile_emulation::Release
#define _tile_zero ::tessera::kernels::tile_emulation::Zero
#define _tile_loadd ::tessera::kernels::tile_emulation::Load
#define _tile_stored ::tessera::kernels::tile_emulation::Store
#define _tile_dpbssd ::tessera::kernels::tile_emulation::DotSignedBytes
#define _tile_dpbf16ps ::tessera::kernels::tile_emulation::DotBFloat16

#endif  // TESSERA_TESTS_KERNELS_TILE_EMULATION_H_
