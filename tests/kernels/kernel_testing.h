// What the kernel tests share: the devices that a suite runs on, inputs that vary, and
// tolerances that follow from float32 accumulation instead of being guessed.
#ifndef TESSERA_TESTS_KERNELS_KERNEL_TESTING_H_
#define TESSERA_TESTS_KERNELS_KERNEL_TESTING_H_

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace tessera::kernels {

// Every test of a suite on this runs once per device: the instruction sets of this machine, or, in a
// program that is linked for GPUs (TESSERA_GPU), "cuda" alone; nothing where it finds none.
std::vector<std::string> TestDevices();
// One of them; fails the test where there is none. Only the cpu ones have threads, and keys and
// values of another type than bfloat16.
std::unique_ptr<Device> DeviceOf(const std::string& name, int threads = 1,
                                 DType kv_type = DType::kF32);
std::vector<DType> KvTypesOf(const std::string& device);
inline bool IsGpu(const std::string& device) { return device == "cuda"; }

// How far from the exact result one rounding to the device's activations may lead, relative to it:
// added to what float32 arithmetic explains.
double Rounding(const Device& device);

inline const std::vector<DType>& AllDTypes() {
  static const std::vector<DType> all = {
      DType::kF32,  DType::kF16,  DType::kBF16,   DType::kQ8_0,   DType::kQ4_0,   DType::kQ4_1,
      DType::kQ5_0, DType::kQ5_1, DType::kQ4_K32, DType::kQ5_K32, DType::kQ6_K32, DType::kF8E4M3};
  return all;
}
// Those that TestDevices() take weights of: the cpu's do not take kF8E4M3.
std::vector<DType> TestDTypes();

// Standard normal floats.
std::vector<float> RandomFloats(int64_t count, std::mt19937& random);

// rows × cols of random weights in the type's own bytes: all quants occur, scales are about 1/64,
// some negative.
std::vector<uint8_t> RandomWeights(DType dtype, int64_t rows, int64_t cols, std::mt19937& random);

// Rounds to nearest even; finite normal values of a half's range.
uint16_t FloatToHalf(float value);

// For each output of x · wᵀ, how far float32 accumulation in any order may stray: a few roundings
// per column, each at most eps of the sum of magnitudes.
std::vector<double> MatMulTolerance(const MatrixView& w, const float* x, const float* bias,
                                    int64_t n);

// And how far rounding the inputs may lead, where the device multiplies weights of a quantized type
// by integers (half a step of each block's largest, kernels/cpu/matmul_input.h) and bfloat16 weights
// by bfloat16.
std::vector<double> InputRounding(const MatrixView& w, const float* x, int64_t n);

// Fails naming the first element that is not within its tolerance, or not a number.
void ExpectNear(const std::vector<float>& actual, const std::vector<double>& expected,
                const std::vector<double>& tolerance, const std::string& what);
// tolerance = relative * max |expected| of the whole.
void ExpectNear(const std::vector<float>& actual, const std::vector<double>& expected,
                double relative, const std::string& what);

// tolerance = relative * |expected| more than the given one, element by element.
std::vector<double> Widened(std::vector<double> tolerance, const std::vector<double>& expected,
                            double relative);

// Fails naming the first element whose bits differ.
void ExpectSameBits(const float* actual, const float* expected, int64_t count,
                    const std::string& what);

}  // namespace tessera::kernels

#endif  // TESSERA_TESTS_KERNELS_KERNEL_TESTING_H_
