// Every call of CUDA, cuBLASLt and NCCL that a group of 2 x 2 simulated GPUs makes fails once, each
// in a group of its own: the group ends within its deadline, with an exit status, the library's
// text, the call's name and the rank. So does every further call that groups of one stage make,
// whose steps are scheduled asynchronously: of one rank, of 2 and of 4; and some that all make fail
// where steps lie one behind the other. The calls are those that a clean run writes down
// (kernels/simulated), so a new one is covered as soon as it is reached.
//
// TESSERA_FAILURE_SHARD=I/N: every N-th site from the I-th on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tests/worker/group/group_fixture.h"

namespace tessera::worker {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kPoll = absl::Milliseconds(2);
constexpr int kCommTimeoutSeconds = 6;
// Far above the deadline of the group: a machine under load must not fail this test.
constexpr absl::Duration kGivenUp = absl::Seconds(60);

// Weights of 8-bit floats, and of such sizes that a long step has products of every kind: through the
// library in 8-bit floats (attention) and in bfloat16 (40 FFN columns are no multiple of 16), and by
// our own kernel (36 are none of 8 either).
constexpr char kConfig[] = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
  "hidden_size": 48, "intermediate_size": 76, "num_hidden_layers": 2, "num_attention_heads": 6,
  "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 131, "max_position_embeddings": 256,
  "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false, "hidden_act": "silu"
})";

constexpr char kWorker[] = TESSERA_BINARY_DIR "/bin/tessera-worker-simulated";

struct Shape {
  int tp = 1;
  int pp = 1;
  std::string name() const { return absl::StrCat(tp, "x", pp); }
};

struct Site {
  std::string name;
  int rank = 0;
  Shape shape;   // of the group that reaches it
  int call = 1;  // which of the rank's calls fails
};

// What a group is given to do.
struct Job {
  Shape shape;
  std::vector<v1::StepPlan> steps;
  size_t ahead = 0;  // steps sent before the last one's result is back
  // This rank is stopped (SIGSTOP) once three steps are done; -1: none.
  int stopped_rank = -1;
};

// How a group ended.
struct End {
  bool ended = false;  // within kGivenUp
  absl::Duration took;
  absl::Status exit;
  bool served = false;          // all steps came back
  std::vector<int32_t> tokens;  // one of each step
  std::string output;
};

// What the library says when that site fails (kernels/simulated).
std::string LibraryText(const std::string& site) {
  if (absl::StartsWith(site, "run@nccl"))
    return "remote process exited or there was a network error";
  if (absl::StartsWith(site, "run@")) return "unspecified launch failure";
  if (absl::StartsWith(site, "launch@")) return "too many resources requested for launch";
  if (absl::StartsWith(site, "cublas")) return "the function failed to launch on the GPU";
  if (absl::StartsWith(site, "nccl")) return "unhandled system error";
  return "uncorrectable ECC error encountered";
}

class GpuFailuresTest : public ::testing::Test {
 protected:
  static v1::StepPlan Step(int64_t id, int tokens, int start_position) {
    v1::StepPlan step;
    step.set_step_id(id);
    v1::SequenceChunk& chunk = *step.add_chunks();
    chunk.set_sequence_id(1);
    for (int i = 0; i < tokens; ++i) chunk.add_token_ids(i + 1);
    chunk.set_start_position(start_position);
    for (int block = 0; block < 6; ++block) chunk.add_block_table(block);
    chunk.mutable_sampling()->set_top_p(1);
    chunk.mutable_sampling()->set_num_logprobs(-1);
    return step;
  }

  // A prompt long enough for every kind of product, then tokens one by one: run, recorded,
  // replayed. A copy of a block too.
  static std::vector<v1::StepPlan> Steps(int decodes) {
    std::vector<v1::StepPlan> steps = {Step(1, 70, 0)};
    for (int i = 0; i < decodes; ++i) steps.push_back(Step(2 + i, 1, 70 + i));
    // From the third step on, its last block is a copy of the one before.
    v1::BlockCopy& copy = *steps[2].add_copies();
    copy.set_source(4);
    copy.set_destination(7);
    for (size_t i = 2; i < steps.size(); ++i) steps[i].mutable_chunks(0)->set_block_table(4, 7);
    return steps;
  }

  // Those steps; for a single stage with tokens that are still being sampled when their step is
  // sent.
  static Job JobOf(const Shape& shape, int decodes = 4) {
    Job job{.shape = shape, .steps = Steps(decodes), .ahead = 0};
    if (shape.pp != 1) return job;
    job.ahead = 1;
    for (size_t i = 1; i < job.steps.size(); ++i) {
      v1::SequenceChunk& chunk = *job.steps[i].mutable_chunks(0);
      chunk.set_token_ids(0, -1);
      chunk.set_last_token_from_step(job.steps[i - 1].step_id());
    }
    return job;
  }

  static pid_t PidOf(const coordinator::RecordingObserver::Record& record, int rank) {
    for (const v1::RankReport& report : record.reports) {
      if (report.world_rank() == rank) return static_cast<pid_t>(report.pid());
    }
    ADD_FAILURE() << "nobody knows rank " << rank;
    return getpid();
  }

  // Runs a group under the environment's TESSERA_STUB_...
  End RunGroup(const Job& work) {
    coordinator::Layout layout;
    layout.tensor_parallel = work.shape.tp;
    layout.pipeline_parallel = work.shape.pp;
    if (work.shape.tp == 2) layout.tensor_split = {40, 36};
    const int ranks = work.shape.tp * work.shape.pp;
    layout.kv_bytes_per_rank = 1 << 20;
    auto observer = std::make_shared<coordinator::RecordingObserver>(
        [layout](const v1::Hello& hello) { return PlanShards(hello.model(), layout); });
    auto service =
        coordinator::ClusterService::Start({}, observer.get());
    EXPECT_TRUE(service.ok()) << service.status();
    coordinator::LaunchOptions options;
    options.worker_program = kWorker;
    options.world_size = ranks;
    options.coordinator = absl::StrCat("127.0.0.1:", (*service)->port());
    options.model = absl::StrCat(testing::TempDir(), "/tessera_config_", getpid(), ".json");
    std::ofstream(options.model) << kConfig;
    options.load_format = "dummy";
    options.threads_per_rank = 1;
    options.worker_args = {"--device",       "cuda",
                           "--comm",         ranks == 1 ? "auto" : "nccl",
                           "--comm-timeout", absl::StrCat(kCommTimeoutSeconds),
                           "--quantization", "fp8"};
    absl::Mutex mu;
    std::vector<std::string> lines;
    std::optional<absl::Status> exit;
    auto job = coordinator::Launcher::Start(
        options,
        [&](const std::string& line) {
          absl::MutexLock lock(&mu);
          lines.push_back(line);
        },
        [&](absl::Status how) {
          absl::MutexLock lock(&mu);
          exit = std::move(how);
        });
    EXPECT_TRUE(job.ok()) << job.status();

    End end;
    const std::vector<v1::StepPlan>& steps = work.steps;
    size_t sent = 0;
    bool stopped = false;
    const auto has_exited = [&] {
      absl::MutexLock lock(&mu);
      return exit.has_value();
    };
    const absl::Time start = absl::Now();
    for (; !has_exited() && absl::Now() - start < kGivenUp; absl::SleepFor(kPoll)) {
      const auto record = observer->record();
      if (record.readies == 0 || !record.transport) continue;
      if (work.stopped_rank >= 0 && !stopped && record.results.size() >= 3) {
        stopped = true;
        kill(PidOf(record, work.stopped_rank), SIGSTOP);
      }
      if (sent < steps.size() && record.results.size() + work.ahead >= sent) {
        record.transport->SendPlan(steps[sent++]).IgnoreError();
      } else if (record.results.size() < steps.size()) {
        continue;
      } else if (!end.served) {
        end.served = true;
        for (const v1::StepResult& result : record.results) {
          for (const auto& token : result.tokens()) end.tokens.push_back(token.token_id());
        }
        record.transport->Shutdown("the test is over");
      }
    }
    end.ended = has_exited();
    end.took = absl::Now() - start;
    (*job)->Terminate(absl::ZeroDuration());
    unlink(options.model.c_str());
    absl::MutexLock lock(&mu);
    if (exit) end.exit = *exit;
    end.output = absl::StrJoin(lines, "\n");
    return end;
  }

  // What a clean run reaches, each with a rank that does; not the leader where others do too.
  std::vector<Site> ReachedSites(const Shape& shape) {
    const std::string file = absl::StrCat(testing::TempDir(), "/tessera_sites_", getpid());
    unlink(file.c_str());
    setenv("TESSERA_STUB_SITES", file.c_str(), 1);
    const End end = RunGroup(JobOf(shape));
    unsetenv("TESSERA_STUB_SITES");
    EXPECT_TRUE(end.ended && end.served && end.exit.ok()) << end.exit << "\n" << end.output;
    EXPECT_EQ(end.output, "");
    std::map<std::string, int> rank_of;
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      int rank = 0;
      if (words.size() == 2 && absl::SimpleAtoi(words[0], &rank)) {
        rank_of[words[1]] = std::max(rank_of[words[1]], rank);
      }
    }
    unlink(file.c_str());
    std::vector<Site> sites;
    for (const auto& [name, rank] : rank_of) sites.push_back({name, rank, shape});
    return sites;
  }

  void ExpectEndOf(const Site& site) {
    SCOPED_TRACE(absl::StrCat(site.name, ", call ", site.call, ", on rank ", site.rank, " of ",
                              site.shape.name()));
    setenv("TESSERA_STUB_FAIL_CALL", absl::StrCat(site.call).c_str(), 1);
    setenv("TESSERA_STUB_FAIL", site.name.c_str(), 1);
    setenv("TESSERA_STUB_FAIL_RANK", absl::StrCat(site.rank).c_str(), 1);
    End end = RunGroup(JobOf(site.shape));
    // mpirun may drop what a rank said last; hardly twice.
    for (int again = 0; again < 2 && !absl::StrContains(end.output, LibraryText(site.name));
         ++again) {
      end = RunGroup(JobOf(site.shape));
    }
    unsetenv("TESSERA_STUB_FAIL");
    unsetenv("TESSERA_STUB_FAIL_CALL");
    unsetenv("TESSERA_STUB_FAIL_RANK");
    ASSERT_TRUE(end.ended) << "still there after " << kGivenUp << "\n" << end.output;
    EXPECT_THAT(end.output, HasSubstr(LibraryText(site.name)));
    const std::vector<std::string> parts = absl::StrSplit(site.name, '@');
    if (parts[0] != "run" && parts[0] != "launch") {
      EXPECT_THAT(end.output, HasSubstr(parts[0]));
    }
    if (end.served) return;  // at the end of a life that was done
    EXPECT_FALSE(end.exit.ok()) << end.output;
    if (site.rank > 0) {
      EXPECT_THAT(end.output, HasSubstr(absl::StrCat("tessera-worker: rank ", site.rank, ": ")));
    }
  }
};

// What the GPU put in the place of a token that it still sampled is the token that it reported.
TEST_F(GpuFailuresTest, AsyncSchedulingGivesTheTokensOfStepsThatWait) {
  for (const Shape& shape : {Shape{1, 1}, Shape{2, 1}, Shape{4, 1}}) {
    SCOPED_TRACE(shape.name());
    Job job = JobOf(shape);
    const End ahead = RunGroup(job);
    ASSERT_TRUE(ahead.served) << ahead.exit << "\n" << ahead.output;
    ASSERT_EQ(ahead.tokens.size(), job.steps.size());
    job.ahead = 0;
    for (size_t i = 1; i < job.steps.size(); ++i) {
      v1::SequenceChunk& chunk = *job.steps[i].mutable_chunks(0);
      chunk.set_token_ids(0, ahead.tokens[i - 1]);
      chunk.clear_last_token_from_step();
    }
    const End waiting = RunGroup(job);
    EXPECT_EQ(waiting.tokens, ahead.tokens) << waiting.output;
  }
}

// A rank that says nothing any more, while all have steps on their devices.
TEST_F(GpuFailuresTest, ARankThatIsStoppedEndsTheOthersWithinTheDeadline) {
  for (int rank : {1, 0}) {
    SCOPED_TRACE(rank);
    Job job = JobOf({2, 1}, /*decodes=*/20);
    job.stopped_rank = rank;
    const End end = RunGroup(job);
    ASSERT_TRUE(end.ended) << "still there after " << kGivenUp << "\n" << end.output;
    EXPECT_FALSE(end.served);
    EXPECT_FALSE(end.exit.ok());
    EXPECT_THAT(end.output, HasSubstr(absl::StrCat("the device has sampled no token within ",
                                                   kCommTimeoutSeconds, "s")));
    EXPECT_LT(end.took, absl::Seconds(5 * kCommTimeoutSeconds));
  }
}

TEST_F(GpuFailuresTest, EveryCallsFailureEndsTheGroupAndIsNamed) {
  int shard = 0, shards = 1;
  if (const char* asked = std::getenv("TESSERA_FAILURE_SHARD")) {
    const std::vector<std::string> numbers = absl::StrSplit(asked, '/');
    ASSERT_EQ(numbers.size(), 2u);
    ASSERT_TRUE(absl::SimpleAtoi(numbers[0], &shard) && absl::SimpleAtoi(numbers[1], &shards));
  }
  std::vector<Site> sites = ReachedSites({2, 2});
  std::set<std::string> names;
  for (const Site& site : sites) names.insert(site.name);
  const auto add_new = [&](const std::vector<Site>& reached) {
    for (const Site& site : reached) {
      if (names.count(site.name) == 0) sites.push_back(site);
    }
  };
  // What only groups with async scheduling reach: of one rank what no other does, and all that the
  // ranks of several do.
  const std::vector<Site> alone = ReachedSites({1, 1});
  const std::vector<Site> of_two = ReachedSites({2, 1});
  add_new(of_two);
  add_new(ReachedSites({4, 1}));
  for (const Site& site : of_two) names.insert(site.name);
  add_new(alone);
  // A step's sum, its samples and their exchange, with another step before or behind it: the prompt
  // has five sums, and each step of a token.
  for (const Shape& shape : {Shape{2, 1}, Shape{4, 1}}) {
    for (int rank : {0, shape.tp - 1}) {
      sites.push_back({"run@ncclAllReduce", rank, shape, 17});
      sites.push_back({"run@ncclAllGather", rank, shape, 3});
      sites.push_back({"run@SampleRows", rank, shape, 4});
      sites.push_back({"run@FillPlaceholders", rank, shape, 2});
    }
  }
  if (HasFailure()) return;
  // Each kind of call is among them: else the stubs are not what is called.
  for (const char* call :
       {"cudaMalloc@", "cudaGraphLaunch@", "cublasLtMatmul@", "ncclAllReduce@", "ncclSend@",
        "ncclCommWindowRegister@", "launch@", "run@ncclRecv", "run@QuantizeRows", "run@Dequantize",
        "run@TiledMatMul", "cudaEventQuery@", "launch@FillPlaceholders", "run@FillPlaceholders",
        "ncclAllGather@", "run@ncclAllGather"}) {
    EXPECT_TRUE(std::any_of(sites.begin(), sites.end(), [&](const Site& site) {
      return absl::StartsWith(site.name, call);
    })) << call;
  }
  int tried = 0;
  for (size_t i = shard; i < sites.size(); i += shards, ++tried) ExpectEndOf(sites[i]);
  std::cout << tried << " of " << sites.size() << " call sites failed, one group each\n";
}

}  // namespace
}  // namespace tessera::worker
