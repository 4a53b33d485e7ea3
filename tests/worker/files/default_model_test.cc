// The default model: what its description says, what loading it costs, and cut versions of it.
// Skipped, loudly, where it was not fetched.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "tests/worker/files/test_files.h"
#include "worker/files/model_file.h"

namespace tessera::worker {
namespace {

using ::testing::HasSubstr;
using namespace testing;  // NOLINT: the builders of this folder

class DefaultModel : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* from_environment = std::getenv("TESSERA_TEST_MODEL");
    const char* home = std::getenv("HOME");
    path_ = from_environment != nullptr
                ? from_environment
                : std::string(home != nullptr ? home : "") +
                      "/.cache/tessera/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (!std::filesystem::exists(path_)) {
      std::fprintf(stderr,
                   "\n*** SKIPPED: the default model is not at %s; deploy/fetch-model.sh gets it\n\n",
                   path_.c_str());
      GTEST_SKIP() << "the default model is missing";
    }
  }
  std::string path_;
};

TEST_F(DefaultModel, Description) {
  const auto model = OpenModel(path_, LoadFormat::kAuto);
  ASSERT_TRUE(model.ok()) << model.status();
  const v1::ModelDescription& description = (*model)->description();
  EXPECT_EQ(description.name(), "SmolLM2-135M-Instruct.Q4_1");
  EXPECT_EQ(description.quantization(), "Q4_1");
  EXPECT_THAT(description.chat_template(), HasSubstr("<|im_start|>"));
  const v1::Architecture& arch = description.architecture();
  EXPECT_EQ(arch.family(), "llama");
  EXPECT_EQ(arch.num_layers(), 30);
  EXPECT_EQ(arch.hidden_size(), 576);
  ASSERT_EQ(arch.layer_kinds_size(), 1);
  const v1::AttentionConfig& attention = arch.layer_kinds(0).attention();
  EXPECT_EQ(attention.num_heads(), 9);
  EXPECT_EQ(attention.num_kv_heads(), 3);
  EXPECT_EQ(attention.head_dim(), 64);
  EXPECT_EQ(arch.layer_kinds(0).feed_forward().width(), 1536);
  EXPECT_EQ(arch.vocab_size(), 49152);
  EXPECT_EQ(arch.max_positions(), 8192);
  EXPECT_FLOAT_EQ(arch.rms_norm_eps(), 1e-5f);
  EXPECT_FLOAT_EQ(attention.rope().theta(), 100000);
  EXPECT_EQ(attention.rope().pairing(), v1::ROPE_PAIRING_INTERLEAVED);
  EXPECT_TRUE(arch.tied_embeddings());
  EXPECT_EQ(arch.layer_kinds(0).feed_forward().granularity(), 64);
  EXPECT_EQ(description.tensors_size(), 272);
  EXPECT_EQ(description.tensors(0).type(), v1::DATA_TYPE_Q8_0);
  const v1::TokenizerDescription& tokenizer = description.tokenizer();
  EXPECT_EQ(tokenizer.kind(), v1::TOKENIZER_KIND_BYTE_LEVEL_BPE);
  EXPECT_EQ(tokenizer.tokens_size(), 49152);
  EXPECT_EQ(tokenizer.merges_size(), 48900);
  EXPECT_EQ(tokenizer.pre_tokenizer_name(), "smollm");
  EXPECT_EQ(tokenizer.pre_tokenizer_patterns_size(), 2);
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_FALSE(tokenizer.add_bos());
  EXPECT_THAT(tokenizer.stop_ids(), ::testing::ElementsAre(0, 2));
}

// VmHWM of this process in bytes.
int64_t PeakResidentBytes() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.rfind("VmHWM:", 0) == 0) return std::atoll(line.c_str() + 6) * 1024;
  }
  return -1;
}

// Loads half of every matrix (rows or columns, as a rank of two would) into memory of its own and
// returns {bytes kept, growth of the peak} through `report`.
void LoadHalf(const std::string& path, int report) {
  const int64_t before = PeakResidentBytes();
  const auto model = OpenModel(path, LoadFormat::kGguf);
  if (!model.ok()) _exit(1);
  const v1::ModelDescription& description = (*model)->description();
  std::vector<std::vector<uint8_t>> shard;
  int64_t kept = 0;
  for (const v1::TensorDescription& tensor : description.tensors()) {
    const auto resident = ResidentType(tensor, description.architecture());
    int64_t rows = tensor.shape_size() == 2 ? tensor.shape(0) : 1;
    int64_t cols = tensor.shape(tensor.shape_size() - 1);
    if (tensor.axis() == v1::SHARD_AXIS_FFN_COLS || tensor.axis() == v1::SHARD_AXIS_Q_HEAD_COLS) {
      cols = cols / 2 / 32 * 32;
    } else if (rows > 1) {
      rows /= 2;
    }
    shard.emplace_back(kernels::RowBytes(resident, cols) * static_cast<size_t>(rows));
    kept += static_cast<int64_t>(shard.back().size());
    if (!(*model)->ReadSlice(tensor.name(), 0, rows, 0, cols, shard.back().data()).ok()) _exit(1);
  }
  const int64_t numbers[2] = {kept, PeakResidentBytes() - before};
  _exit(write(report, numbers, sizeof(numbers)) == sizeof(numbers) ? 0 : 1);
}

TEST_F(DefaultModel, LoadingAShardTakesTheShardAndABoundedWindow) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) LoadHalf(path_, ends[1]);
  close(ends[1]);
  int64_t numbers[2] = {0, 0};
  const ssize_t got = read(ends[0], numbers, sizeof(numbers));
  close(ends[0]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_EQ(got, static_cast<ssize_t>(sizeof(numbers)));
  const int64_t over = numbers[1] - numbers[0];
  std::printf("shard %.1f MB, peak grew %.1f MB: %.1f MB beside the shard\n",
              static_cast<double>(numbers[0]) / 1e6, static_cast<double>(numbers[1]) / 1e6,
              static_cast<double>(over) / 1e6);
  RecordProperty("bytes_beside_the_shard", std::to_string(over));
  EXPECT_GT(numbers[0], 40'000'000);
#if !defined(__SANITIZE_ADDRESS__)  // its shadow and quarantine count too
  EXPECT_LE(over, int64_t{64} << 20);
#endif
}

TEST_F(DefaultModel, CutShortAnywhereIsOneLine) {
  const TempFolder folder;
  const std::string copy = folder.Path("cut.gguf");
  std::filesystem::copy_file(path_, copy);
  const uint64_t size = std::filesystem::file_size(copy);
  // The last tensor ends within 32 bytes of the end. Every 4 KB of the header and the data's
  // beginning, then every 1 MB, downwards so that the file is never written again.
  for (uint64_t cut = size - 64; cut > 2'000'000; cut -= std::min<uint64_t>(cut, 1'000'000)) {
    std::filesystem::resize_file(copy, cut);
    EXPECT_THAT(OpenError(copy), HasSubstr("cut.gguf"));
  }
  for (uint64_t cut = 2'000'000 / 4096 * 4096; cut > 0; cut -= 4096) {
    std::filesystem::resize_file(copy, cut);
    EXPECT_THAT(OpenError(copy), HasSubstr("cut.gguf"));
  }
}

}  // namespace
}  // namespace tessera::worker
