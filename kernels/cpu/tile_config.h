// How the tiles of AMX are told their sizes. Included by instruction-set code only.
//
//   TileConfig config;
//   config.row_bytes[0] = 64, config.rows[0] = 16;
//   LoadTiles(config);
#ifndef TESSERA_KERNELS_CPU_TILE_CONFIG_H_
#define TESSERA_KERNELS_CPU_TILE_CONFIG_H_

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu::TESSERA_ISA {

// As LDTILECFG reads it (palette 1: eight tiles of up to 16 rows of 64 bytes).
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

TESSERA_INLINE void LoadTiles(const TileConfig& config) {
  asm volatile("" : : "r"(&config) : "memory");  // GCC 12 believes that only 8 bytes are read
  _tile_loadconfig(&config);
}

}  // namespace tessera::kernels::cpu::TESSERA_ISA

#endif  // TESSERA_KERNELS_CPU_TILE_CONFIG_H_
