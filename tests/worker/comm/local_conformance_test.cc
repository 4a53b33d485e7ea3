// The conformance suite over the communicators that live in one process.

#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/conformance.h"
#include "worker/comm/communicator.h"

namespace tessera::worker {
namespace {

struct NullConformanceTest : testing::TestWithParam<ConformanceCase> {};

TEST_P(NullConformanceTest, Holds) { GetParam().run(*MakeNullCommunicator()); }

INSTANTIATE_TEST_SUITE_P(Null, NullConformanceTest, testing::ValuesIn(ConformanceCases()),
                         [](const auto& test) { return std::string(test.param.name); });

struct ThreadConformanceTest : testing::TestWithParam<std::tuple<ConformanceCase, int>> {};

TEST_P(ThreadConformanceTest, Holds) {
  const auto& [conformance_case, size] = GetParam();
  std::vector<std::unique_ptr<Communicator>> worlds = MakeThreadCommunicators(size, {});
  std::vector<std::thread> ranks;
  for (auto& world : worlds) {
    ranks.emplace_back([&world, run = conformance_case.run] { run(*world); });
  }
  for (std::thread& rank : ranks) rank.join();
}

INSTANTIATE_TEST_SUITE_P(Thread, ThreadConformanceTest,
                         testing::Combine(testing::ValuesIn(ConformanceCases()),
                                          testing::Values(1, 2, 3, 4, 7)),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param).name, "_",
                                               std::get<1>(test.param), "_ranks");
                         });

}  // namespace
}  // namespace tessera::worker
