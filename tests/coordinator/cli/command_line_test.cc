// Command lines: what is understood, what is refused, and plan through the real tessera-worker.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>

#include "coordinator/cli/app.h"
#include "coordinator/cli/cluster_map.h"
#include "coordinator/cli/describe.h"
#include "coordinator/cli/flags.h"
#include "coordinator/cli/load_display.h"
#include "coordinator/cli/serve_session.h"
#include "coordinator/cli/terminal.h"

namespace tessera::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::internal::CaptureStderr;
using ::testing::internal::CaptureStdout;
using ::testing::internal::GetCapturedStderr;
using ::testing::internal::GetCapturedStdout;

struct Outcome {
  int code = 0;
  std::string out;
  std::string err;
};

Outcome RunTessera(const std::vector<std::string>& args) {
  CaptureStdout();
  CaptureStderr();
  Outcome outcome;
  outcome.code = RunCommandLine(args);
  std::cout.flush();
  outcome.out = GetCapturedStdout();
  outcome.err = GetCapturedStderr();
  return outcome;
}

TEST(CommandLine, ShortLayoutFlagsBecomeLongOnes) {
  EXPECT_THAT(RewriteShortFlags({"serve", "-tp", "2", "-pp=3", "-dp", "1", "-t", "-tpx"}),
              ElementsAre("serve", "--tensor-parallel-size", "2", "--pipeline-parallel-size=3",
                          "--data-parallel-size", "1", "-t", "-tpx"));
  EXPECT_THAT(RewriteShortFlags({"--", "-tp"}), ElementsAre("--", "-tp"));
}

TEST(CommandLine, FlagsComeFromTheEnvironmentAndTheLineWins) {
  setenv("TESSERA_TENSOR_PARALLEL_SIZE", "3", 1);
  setenv("TESSERA_TENSOR_SPLIT", "1,2,3", 1);
  const auto parse = [](std::vector<std::string> reversed) {
    CLI::App app;
    Layout layout;
    AddLayoutFlags(app, layout);
    app.parse(std::move(reversed));
    return layout;
  };
  const Layout from_environment = parse({});
  const Layout from_line = parse({"5", "--tensor-parallel-size"});
  unsetenv("TESSERA_TENSOR_PARALLEL_SIZE");
  unsetenv("TESSERA_TENSOR_SPLIT");
  EXPECT_EQ(from_environment.tensor_parallel, 3);
  EXPECT_THAT(from_environment.tensor_split, ElementsAre(1, 2, 3));
  EXPECT_EQ(from_line.tensor_parallel, 5);
}

TEST(CommandLine, SizesMayHaveUnits) {
  CLI::App app;
  Layout layout;
  AddLayoutFlags(app, layout);
  app.parse(std::vector<std::string>{"512MB", "--kv-cache-memory", "1,2", "--layer-split"});
  EXPECT_EQ(layout.kv_bytes_per_rank, 512'000'000);
  EXPECT_THAT(layout.layer_split, ElementsAre(1, 2));
}

TEST(CommandLine, SamplingFlagsLeftOutAreTheServersToChoose) {
  CLI::App app;
  SamplingFlags flags;
  AddSamplingFlags(app, flags);
  app.parse(std::vector<std::string>{"0", "--temperature", "b", "--stop", "a", "--stop"});
  const v1::SamplingOptions options = ToOptions(flags);
  EXPECT_TRUE(options.has_temperature());
  EXPECT_EQ(options.temperature(), 0);
  EXPECT_THAT(options.stop(), ElementsAre("a", "b"));
  EXPECT_FALSE(options.has_max_tokens() || options.has_top_k() || options.has_seed() ||
               options.has_ignore_eos() || options.has_logprobs());
}

TEST(CommandLine, EverySamplingFlagReachesItsField) {
  CLI::App app;
  SamplingFlags flags;
  AddSamplingFlags(app, flags);
  app.parse(
      "--max-tokens 7 --temperature 0.5 --top-k 3 --top-p 0.25 --min-p 0.125 --seed "
      "18446744073709551615 --stop a --ignore-eos --logprobs 2 --min-tokens 1 "
      "--repetition-penalty 1.5 --presence-penalty -2 --frequency-penalty 2 --choice x --choice y");
  v1::SamplingOptions expected;
  expected.set_max_tokens(7);
  expected.set_temperature(0.5f);
  expected.set_top_k(3);
  expected.set_top_p(0.25f);
  expected.set_min_p(0.125f);
  expected.set_seed(18446744073709551615u);
  expected.add_stop(std::string(1, 'a'));
  expected.set_ignore_eos(true);
  expected.set_logprobs(2);
  expected.set_min_tokens(1);
  expected.set_repetition_penalty(1.5f);
  expected.set_presence_penalty(-2);
  expected.set_frequency_penalty(2);
  for (const char* choice : {"x", "y"}) {
    expected.mutable_structured()->mutable_choice()->add_values(choice);
  }
  EXPECT_EQ(ToOptions(flags).DebugString(), expected.DebugString());
}

// What the message has and the command line lacks is left out on purpose.
TEST(CommandLine, SamplingFieldsWithoutAFlag) {
  CLI::App app;
  SamplingFlags flags;
  AddSamplingFlags(app, flags);
  std::vector<std::string> without;
  const auto* message = v1::SamplingOptions::descriptor();
  for (int i = 0; i < message->field_count(); ++i) {
    std::string name = message->field(i)->name();
    std::replace(name.begin(), name.end(), '_', '-');
    if (app.get_option_no_throw("--" + name) == nullptr) without.push_back(name);
  }
  EXPECT_THAT(without, ElementsAre("logit-bias", "stop-token-ids", "bad-words", "n",
                                   "prompt-logprobs", "structured"));
}

TEST(CommandLine, MistakesAreOneLineAndExitStatus2) {
  const struct {
    std::vector<std::string> args;
    const char* message;
  } cases[] = {
      {{"frobnicate"}, "unknown command frobnicate"},
      {{"serve", "--no-such-flag"}, "unknown flag --no-such-flag; see tessera serve --help"},
      {{"plan", "--tp"}, "unknown flag --tp"},
      {{"plan"}, "--model is required"},
      {{"serve"}, "--model is required"},
      {{"serve", "--model", "m", "-tp", "0"}, "--tensor-parallel-size"},
      {{"serve", "--model", "m", "-tp", "two"}, "--tensor-parallel-size"},
      {{"serve", "--model", "m", "--grpc-port", "70000"}, "--grpc-port"},
      {{"serve", "--model", "m", "--launch", "slurm"}, "--launch"},
      {{"serve", "--model", "m", "--device", "tpu"}, "--device"},
      {{"serve", "--model", "m", "--comm", "tcp"}, "--comm"},
      {{"serve", "--model", "m", "--deterministic=perhaps"}, "--deterministic"},
      {{"generate", "--max-tokens"}, "--max-tokens: expected 1 .. 16777216 tokens, got nothing"},
      {{"serve", "--model", "m", "-xp", "2"}, "unknown flag -xp; see tessera serve --help"},
      {{"serve", "--model", "m", "-tp", "two"},
       "--tensor-parallel-size: expected 1 .. 4096, got two"},
      {{"serve", "--model", "m", "--grpc-port", "70000"},
       "--grpc-port: expected 0 .. 65535, got 70000"},
      {{"serve", "--model", "m", "--prefill-stretch", "nan"},
       "--prefill-stretch: expected 0 .. 1000 times, got nan"},
      {{"serve", "--model", "m", "--launch", "slurm"},
       "--launch: expected mpirun or external, got slurm"},
      {{"serve", "--model", "m", "--kv-cache-dtype", "int8"},
       "--kv-cache-dtype: expected auto, float32 or bfloat16, got int8"},
      {{"serve", "--model", "m", "--threads-per-rank", "0"},
       "--threads-per-rank: expected 1 .. 1024, got 0"},
      {{"generate", "--temperature", "101"}, "--temperature: expected 0 .. 100, got 101"},
      {{"chat", "--top-p", "0"}, "--top-p: expected more than 0 .. 1, got 0"},
      {{"chat", "--min-p", "nan"}, "--min-p: expected 0 .. 1, got nan"},
      {{"generate", "--logprobs", "21"}, "--logprobs: expected 0 .. 20, got 21"},
      {{"batch", "in", "-o", "out", "--concurrency", "0"},
       "--concurrency: expected 1 .. 1024 requests, got 0"},
      {{"perplexity", "/no/such/file"}, "/no/such/file"},
      {{"perplexity", "/"}, "cannot read /"},
  };
  for (const auto& mistake : cases) {
    const Outcome outcome = RunTessera(mistake.args);
    EXPECT_EQ(outcome.code, 2) << mistake.message;
    EXPECT_THAT(outcome.err, HasSubstr(mistake.message));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

TEST(CommandLine, WorkersGetOnlyWhatWasGiven) {
  ServeOptions options;
  EXPECT_THAT(WorkerArguments(options), IsEmpty());
  options.deterministic = true;
  EXPECT_THAT(WorkerArguments(options), ElementsAre("--deterministic"));
  options.device = "cuda";
  options.comm = "mpi";
  options.instruction_set = "avx2";
  options.comm_timeout_seconds = 2.5;
  EXPECT_THAT(WorkerArguments(options),
              ElementsAre("--comm-timeout", "2.5", "--device", "cuda", "--comm", "mpi",
                          "--instruction-set", "avx2", "--deterministic"));
}

TEST(CommandLine, HelpHasUsageAndExamples) {
  for (const char* command : {"serve", "generate", "chat", "status", "plan", "tokenize"}) {
    const Outcome outcome = RunTessera({command, "--help"});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_THAT(outcome.out, HasSubstr("Usage: tessera " + std::string(command)));
    EXPECT_THAT(outcome.out, HasSubstr("Examples:"));
  }
  EXPECT_THAT(RunTessera({"--version"}).out, HasSubstr("tessera "));
  EXPECT_EQ(RunTessera({}).code, 2);
}

TEST(CommandLine, NobodyAnsweringIsOneLine) {
  // Port 1 is privileged and unused: a refused connection.
  const Outcome outcome = RunTessera({"status", "--server", "127.0.0.1:1"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err, "error: no answer from 127.0.0.1:1: is `tessera serve` running there?\n");
}

// The worker stands beside the program: in the same folder as this test.
class PlanTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!WorkerProgram().ok()) {
      std::cerr << "SKIPPED LOUDLY: tessera-worker is not built beside the tests\n";
      GTEST_SKIP();
    }
  }
  const std::string tiny_ =
      std::filesystem::path(TESSERA_SOURCE_DIR) / "tests/golden/tiny_models/llama";
};

TEST_F(PlanTest, ShowsWhatEveryRankWouldOwn) {
  const Outcome outcome = RunTessera({"plan", "--model", tiny_, "-tp", "2", "-pp", "2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("tensor parallel 2 x pipeline parallel 2"));
  const Outcome json = RunTessera({"plan", "--model", tiny_, "-tp", "2", "--json"});
  EXPECT_THAT(json.out, HasSubstr("\"tensor_parallel_size\": 2"));
}

TEST_F(PlanTest, RefusesWhatCannotBe) {
  const Outcome wide = RunTessera({"plan", "--model", tiny_, "-tp", "10"});
  EXPECT_EQ(wide.code, 1);
  EXPECT_THAT(wide.err, HasSubstr("tensor-parallel-size"));
  const Outcome missing = RunTessera({"plan", "--model", "/nowhere/model.gguf"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err, HasSubstr("/nowhere/model.gguf"));
  EXPECT_EQ(std::count(missing.err.begin(), missing.err.end(), '\n'), 1) << missing.err;
}

TEST(Terminal, TablesAreAlignedAndProgressIsBounded) {
  EXPECT_EQ(FormatTable({{"a", "long"}, {"100", "x"}}), "  a  long\n100     x\n");
  EXPECT_EQ(FormatProgress(50'000'000, 100'000'000, 4), "[==> ]  50%  50.0 of 100.0 MB");
  EXPECT_EQ(FormatProgress(300, 100, 4), "[====] 100%  0.0 of 0.0 MB");
  EXPECT_EQ(FormatProgress(0, 0, 4), "[>   ]   0%  0.0 of 0.0 MB");
  EXPECT_EQ(Style(false).Red("x"), "x");
  EXPECT_EQ(Style(true).Red("x"), "\033[31mx\033[0m");
}

TEST(LoadDisplay, WritesALinePerQuarterWhereThereIsNoTerminal) {
  std::ostringstream out;
  LoadDisplay display(out, /*terminal=*/false);
  for (int64_t loaded : {0, 10, 30, 31, 80, 100, 100}) {
    display.Update({.bytes_loaded = loaded * 1'000'000, .bytes_total = 100'000'000});
  }
  EXPECT_EQ(out.str(),
            "loading: 25% of 100.0 MB\nloading: 75% of 100.0 MB\n"
            "loading: 100% of 100.0 MB\n");
}

TEST(LoadDisplay, RedrawsOneLineOnATerminal) {
  std::ostringstream out;
  LoadDisplay display(out, /*terminal=*/true);
  display.Update({.bytes_loaded = 1'000'000, .bytes_total = 2'000'000});
  display.Update({.bytes_loaded = 1'000'000, .bytes_total = 2'000'000});  // nothing new
  const size_t drawn = out.str().size();
  display.End();
  EXPECT_EQ(out.str().find('\n'), std::string::npos);
  EXPECT_EQ(out.str().substr(drawn), "\r\033[K");
}

TEST(ClusterMap, ShowsShardsAndProcesses) {
  v1::GroupStatus group;
  v1::RankStatus* rank = group.add_ranks();
  v1::RankPart* shard = rank->mutable_shard();
  shard->mutable_layers()->set_end(15);
  shard->add_kinds()->mutable_q_heads()->set_begin(5);
  shard->mutable_kinds(0)->mutable_q_heads()->set_end(9);
  shard->set_weight_bytes(42'500'000);
  rank->set_host("node1");
  rank->set_pid(4321);
  rank->set_bytes_loaded(21'000'000);
  rank->set_bytes_total(42'500'000);
  rank->set_rss_before_load_bytes(10'000'000);
  rank->set_peak_rss_bytes(60'000'000);
  EXPECT_THAT(FormatShards(group), HasSubstr("0-14 (15)"));
  EXPECT_THAT(FormatShards(group), HasSubstr("5-8 (4)"));
  EXPECT_THAT(FormatProcesses(group), HasSubstr("node1"));
  EXPECT_THAT(FormatProcesses(group), HasSubstr("50.0"));
  EXPECT_EQ(ProgressOf(group).bytes_loaded, 21'000'000);
}

}  // namespace
}  // namespace tessera::coordinator
