// Groups that somebody else starts, with the real worker under the real mpirun: one joins, serves
// and is lost; the next one takes its place, gives the same tokens, and goes on with what the first
// had begun.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/group/cluster_service.h"
#include "coordinator/group/launcher.h"
#include "coordinator/router/router.h"
#include "tests/coordinator/engine/recording_sink.h"

namespace tessera::coordinator {
namespace {

using tessera::testing::Eventually;
using tessera::testing::RecordingSink;

class ExternalGroupTest : public ::testing::Test {
 protected:
  static constexpr int kTokens = 8;

  void SetUp() override {
    EngineOptions options;
    options.layout.tensor_parallel = 2;
    router_ = Router::Create(options);
    auto service = ClusterService::Start({}, router_.get());
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
  }
  void TearDown() override {
    service_ = nullptr;
    router_ = nullptr;
  }

  // What a person or a batch system would do.
  std::unique_ptr<Launcher> StartGroup() {
    LaunchOptions options;
    options.worker_program = absl::StrCat(TESSERA_BINARY_DIR, "/bin/tessera-worker");
    options.world_size = 2;
    options.coordinator = absl::StrCat("127.0.0.1:", service_->port());
    options.model = absl::StrCat(TESSERA_SOURCE_DIR, "/tests/golden/tiny_models/llama");
    options.threads_per_rank = 1;
    auto job = Launcher::Start(options, nullptr, nullptr);
    EXPECT_TRUE(job.ok()) << job.status();
    EXPECT_TRUE(Eventually([&] { return router_->serving() || !(*job)->running(); }));
    if (!(*job)->running()) ADD_FAILURE() << (*job)->Wait();
    return *std::move(job);
  }
  std::shared_ptr<RecordingSink> Ask(int max_tokens) {
    PreparedRequest request;
    request.prompt_ids = {1, 2, 3, 4, 5};
    request.sampling.set_temperature(0);
    request.sampling.set_ignore_eos(true);
    request.sampling.set_max_tokens(max_tokens);
    auto sink = std::make_shared<RecordingSink>();
    const auto id = router_->Submit(std::move(request), sink);
    EXPECT_TRUE(id.ok()) << id.status();
    return sink;
  }
  std::vector<int> Answer() {
    const auto sink = Ask(kTokens);
    EXPECT_TRUE(sink->WaitForEnd());
    EXPECT_TRUE(sink->status().ok()) << sink->status();
    EXPECT_EQ(sink->ids().size(), static_cast<size_t>(kTokens));
    return sink->ids();
  }

  std::unique_ptr<Router> router_;
  std::unique_ptr<ClusterService> service_;
};

TEST_F(ExternalGroupTest, TheNextGroupServesAfterOneIsLost) {
  std::unique_ptr<Launcher> job = StartGroup();
  const std::vector<int> before = Answer();
  const auto whole = Ask(1 << 20);
  ASSERT_TRUE(whole->WaitForEnd());
  const auto interrupted = Ask(1 << 20);
  ASSERT_TRUE(interrupted->WaitForTokens(1));
  job->Terminate(absl::ZeroDuration());
  ASSERT_TRUE(Eventually([&] { return !router_->serving(); }));
  EXPECT_EQ(router_->Status().groups(0).state(), v1::GroupStatus::STATE_FAILED);
  job = StartGroup();
  EXPECT_EQ(Answer(), before);
  ASSERT_TRUE(interrupted->WaitForEnd());
  EXPECT_TRUE(interrupted->status().ok()) << interrupted->status();
  EXPECT_EQ(interrupted->ids(), whole->ids());
  router_->Drain(absl::ZeroDuration());
  EXPECT_TRUE(job->Wait().ok()) << job->Wait();
}

}  // namespace
}  // namespace tessera::coordinator
