// For tests that call the CUDA launchers over the executor, where device memory is host memory:
// arrays whose ends are watched, weights packed as a device keeps them, and launches that must end
// well.
//
//   DeviceArray<BFloat16> x = ToBf16(floats);
//   RunLaunch(LaunchAdd(y.data(), 1.0f, n, x.data(), nullptr));
//   ExpectNear(ToFloats(x), expected, kBf16Relative, "add");
#ifndef TESSERA_TESTS_KERNELS_SIMULATED_LAUNCH_TESTING_H_
#define TESSERA_TESTS_KERNELS_SIMULATED_LAUNCH_TESTING_H_

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/ops.h"
#include "kernels/tensor.h"

namespace tessera::kernels::cuda {

// Rounding to bfloat16 once: 8 bits of mantissa.
inline constexpr double kBf16Rounding = 1.0 / 256;

// `count` elements at a multiple of 64 bytes (or, off: `off` elements behind one), all bits one
// until written: NaN as bfloat16 and float32, which an unwritten output shows.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t count = 0, int64_t off = 0) : count_(count), off_(off) {
    const size_t bytes = ((count + off) * sizeof(T) + 63) / 64 * 64;
    storage_.reset(static_cast<T*>(std::aligned_alloc(64, bytes == 0 ? 64 : bytes)));
    if (bytes != 0) std::memset(static_cast<void*>(storage_.get()), 0xff, bytes);
  }
  DeviceArray(const std::vector<T>& from, int64_t off = 0)
      : DeviceArray(static_cast<int64_t>(from.size()), off) {
    if (!from.empty()) std::memcpy(static_cast<void*>(data()), from.data(), from.size() * sizeof(T));
  }

  T* data() { return storage_.get() + off_; }
  const T* data() const { return storage_.get() + off_; }
  int64_t size() const { return count_; }
  T& operator[](int64_t i) { return data()[i]; }

 private:
  struct Free {
    void operator()(T* memory) const { std::free(memory); }
  };
  int64_t count_;
  int64_t off_;
  std::unique_ptr<T, Free> storage_;
};

// Rounded to nearest even.
DeviceArray<BFloat16> ToBf16(const std::vector<float>& floats, int64_t off = 0);
std::vector<float> ToFloats(const DeviceArray<BFloat16>& from);
// What of each float bfloat16 keeps.
std::vector<float> RoundedToBf16(const std::vector<float>& floats);

// Fails the test with what the executor found wrong.
void RunLaunch(int error);

// A matrix packed in pieces of rows, as a loader would.
struct PackedMatrix {
  DeviceArray<std::byte> memory;
  WeightMatrix w;
};
PackedMatrix Pack(const MatrixView& from);

}  // namespace tessera::kernels::cuda

#endif  // TESSERA_TESTS_KERNELS_SIMULATED_LAUNCH_TESTING_H_
