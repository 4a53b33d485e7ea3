// At which multiples of columns the FFN may be cut over ranks.
#ifndef TESSERA_WORKER_FILES_FFN_GRANULARITY_H_
#define TESSERA_WORKER_FILES_FFN_GRANULARITY_H_

#include <cstdint>

namespace tessera::worker {

// Whole segments of the sums over these columns (kernels/device.h: MatMulPartial), so that the cut
// does not show in the sums, as long as that leaves a granule for each of as many ranks as there are
// heads; else whole quantization blocks. block: 32 where a quantized matrix is cut, else 1.
inline int FfnGranularity(int64_t ffn, int64_t heads, int block) {
  for (int granule : {64, 32}) {
    if (granule >= block && ffn % granule == 0 && ffn / granule >= heads) return granule;
  }
  return block;
}

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_FFN_GRANULARITY_H_
