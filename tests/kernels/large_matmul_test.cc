// How large products use cuBLASLt, by what its stub (kernels/simulated) was asked for: which
// algorithm, with how many rows, and what a call that fails leads to.
#include "kernels/cuda/large_matmul.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/device.h"
#include "kernels/simulated/cublaslt.h"
#include "tests/kernels/host_ops.h"
#include "tests/kernels/kernel_testing.h"

namespace tessera::kernels {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kFixedRows = cuda::LargeMatMul::kFixedRows;
constexpr int64_t kRows = 48;
constexpr int64_t kCols = 96;

// The matrix and inputs that every test multiplies.
struct Problem {
  explicit Problem(DType type_in) : type(type_in), w(RandomWeights(type, kRows, kCols, random)) {
    x = RandomFloats(2 * kFixedRows * kCols, random);
  }
  std::vector<float> Multiply(HostOps& ops, int64_t n) const {
    return ops.MatMul({w.data(), type, kRows, kCols}, {x.begin(), x.begin() + n * kCols}, {}, n);
  }

  std::mt19937 random{7};
  const DType type;
  const std::vector<uint8_t> w;
  std::vector<float> x;
};

std::unique_ptr<Device> Gpu(bool deterministic) {
  auto device = MakeDevice("cuda", {.deterministic = deterministic});
  EXPECT_TRUE(device.ok()) << device.status();
  return device.ok() ? *std::move(device) : nullptr;
}

class LargeMatMulTest : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override { gpu_stubs::ForgetLibraryCalls(); }
  void TearDown() override { gpu_stubs::ForceLibraryParts(0); }
};

// Any number of rows asks for one algorithm, once, that sums in one sequence, and every product has
// the rows that it was asked for.
TEST_P(LargeMatMulTest, DeterministicAsksOnceForOneSequenceAndOneNumberOfRows) {
  const Problem problem(GetParam());
  HostOps ops(Gpu(/*deterministic=*/true));
  for (int64_t n : {1, 5, 64, 128, 200}) problem.Multiply(ops, n);
  const gpu_stubs::LibraryShape shape = {kRows, kCols, kFixedRows};
  const auto answers = gpu_stubs::LibraryAnswers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].shape, shape);
  EXPECT_EQ(answers[0].reductions, 0u);
  EXPECT_EQ(answers[0].parts, 1);
  EXPECT_EQ(gpu_stubs::LibraryProducts(),
            std::vector<gpu_stubs::LibraryShape>(6, shape));  // 200 rows are two
}

// Otherwise it is asked for each power of two, may cut sums, and gets the rows there are.
TEST_P(LargeMatMulTest, OtherwiseTheLibraryAdvisesForTheRowsThereAre) {
  const Problem problem(GetParam());
  HostOps ops(Gpu(/*deterministic=*/false));
  for (int64_t n : {5, 64, 70, 77}) problem.Multiply(ops, n);
  const auto answers = gpu_stubs::LibraryAnswers();
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_NE(answers[0].reductions, 0u);
  const auto products = gpu_stubs::LibraryProducts();
  ASSERT_EQ(products.size(), 3u);
  EXPECT_EQ(products[2].n, 77);
}

// An answer that cuts the sum all the same is not taken: our own kernel multiplies.
TEST_P(LargeMatMulTest, DeterministicRefusesAnAlgorithmThatCutsTheSum) {
  const Problem problem(GetParam());
  gpu_stubs::ForceLibraryParts(2);
  HostOps ops(Gpu(/*deterministic=*/true));
  const auto many = problem.Multiply(ops, 77);
  EXPECT_EQ(gpu_stubs::LibraryAnswers().size(), 1u);
  EXPECT_TRUE(gpu_stubs::LibraryProducts().empty());
  const auto one = problem.Multiply(ops, 1);
  ExpectSameBits(one.data(), many.data(), kRows, "row 0");
}

INSTANTIATE_TEST_SUITE_P(, LargeMatMulTest, testing::Values(DType::kBF16, DType::kF8E4M3),
                         [](const auto& test) { return std::string(DTypeName(test.param)); });

// What the library could only take after a conversion is ours for every n.
TEST(LargeMatMulTypesTest, DeterministicLeavesOtherTypesToOurKernels) {
  gpu_stubs::ForgetLibraryCalls();
  for (DType type : {DType::kF32, DType::kF16, DType::kQ4_0}) {
    const Problem problem(type);
    HostOps ops(Gpu(/*deterministic=*/true));
    problem.Multiply(ops, 200);
  }
  EXPECT_TRUE(gpu_stubs::LibraryProducts().empty());
}

// In a child: the stub reads its orders when it is first called. Says how the device ended.
[[noreturn]] void MultiplyAndExit(const char* variable, const std::string& value) {
  setenv(variable, value.c_str(), 1);
  auto device = MakeDevice("cuda", {.deterministic = true});
  if (!device.ok()) {
    std::fprintf(stderr, "%s\n", std::string(device.status().message()).c_str());
    std::exit(1);
  }
  const absl::Status status = [gpu = device->get()]() -> absl::Status {
    const auto x = gpu->Allocate(77 * kCols * 2), out = gpu->Allocate(77 * kRows * 2);
    if (!x.ok() || !out.ok()) return gpu->Sync();
    for (DType type : {DType::kF8E4M3, DType::kBF16}) {
      const auto w = gpu->Allocate(gpu->WeightBytes(type, kRows, kCols));
      if (!w.ok()) return gpu->Sync();
      gpu->MatMul(
          {{{w->get(), type, kRows, kCols}, nullptr, reinterpret_cast<Activation*>(out->get())}},
          reinterpret_cast<const Activation*>(x->get()), 77);
      if (absl::Status done = gpu->Sync(); !done.ok()) return done;
    }
    return absl::OkStatus();
  }();
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  device->reset();
  std::exit(status.ok() ? 0 : 1);
}

// Every call of the library and every copy on the way, made to fail in its turn, is named.
// First of all tests, as its name makes it: no child inherits a stub that has been called.
TEST(LargeMatMulDeathTest, EveryCallsFailureIsTheDevices) {
  const std::string file = absl::StrCat(testing::TempDir(), "/tessera_large_", getpid());
  unlink(file.c_str());
  EXPECT_EXIT(MultiplyAndExit("TESSERA_STUB_SITES", file), testing::ExitedWithCode(0), "");
  std::vector<std::string> sites;
  std::ifstream in(file);
  for (std::string rank, site; in >> rank >> site;) {
    const bool at_the_end = absl::StrContains(site, "Destroy") || absl::StrContains(site, "Free");
    if (!at_the_end &&
        (absl::StartsWith(site, "cublasLt") || absl::StartsWith(site, "cudaMemcpy"))) {
      sites.push_back(site);
    }
  }
  unlink(file.c_str());
  int settings = 0, readings = 0, copies = 0;
  for (const std::string& site : sites) {
    const std::string call = site.substr(0, site.find('@'));
    settings += call == "cublasLtMatmulPreferenceSetAttribute";
    readings += call == "cublasLtMatmulAlgoConfigGetAttribute";
    copies += call == "cudaMemcpyAsync";
    EXPECT_EXIT(MultiplyAndExit("TESSERA_STUB_FAIL", site), testing::ExitedWithCode(1), call)
        << site;
  }
  EXPECT_GE(settings, 2);
  EXPECT_GE(readings, 2);
  EXPECT_GE(copies, 1);
}

}  // namespace
}  // namespace tessera::kernels
