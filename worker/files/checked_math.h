// Arithmetic on numbers that a file claims: says no instead of wrapping around.
#ifndef TESSERA_WORKER_FILES_CHECKED_MATH_H_
#define TESSERA_WORKER_FILES_CHECKED_MATH_H_

#include <cstdint>
#include <optional>

namespace tessera::worker {

inline std::optional<uint64_t> CheckedMul(uint64_t a, uint64_t b) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

inline std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b) {
  uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_CHECKED_MATH_H_
