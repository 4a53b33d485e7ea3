// tokenizer.json files as the `tokenizers` library writes them, from the folder to the ids: what
// the worker reads must be the tokenizer that the reference ids belong to.
#include <google/protobuf/util/message_differencer.h>

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/text/tokenizer/tokenizer.h"
#include "tests/coordinator/text/golden.h"
#include "tests/worker/files/test_files.h"
#include "worker/files/model_file.h"

namespace tessera::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// The folder's description. The dummy format reads config and tokenizer, and needs no weights.
v1::ModelDescription Describe(const std::string& folder) {
  const auto model = OpenModel(
      absl::StrCat(TESSERA_SOURCE_DIR, "/tests/golden/hf_tokenizers/", folder), LoadFormat::kDummy);
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? (*model)->description() : v1::ModelDescription();
}

std::vector<int32_t> Encode(const v1::TokenizerDescription& description, const std::string& text) {
  const auto tokenizer = coordinator::Tokenizer::Create(description);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  if (!tokenizer.ok()) return {};
  const auto ids = (*tokenizer)->Encode(text, {.add_special = true, .parse_special = true});
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.value_or(std::vector<int32_t>());
}

struct Case {
  std::string folder;
  std::string golden;  // tests/golden/tokenizers/<golden>.textproto and .ids
};

// The ids of tests/golden/tokenizers/<golden>.ids, with the lines of
// tests/golden/hf_tokenizers/<folder>.ids in place of those with their numbers.
std::vector<coordinator::GoldenIds> ExpectedIds(const Case& which) {
  std::vector<coordinator::GoldenIds> all = coordinator::ReadGoldenIds(which.golden);
  std::ifstream differing(
      absl::StrCat(TESSERA_SOURCE_DIR, "/tests/golden/hf_tokenizers/", which.folder, ".ids"));
  size_t number = 0;
  for (std::string line; differing >> number && std::getline(differing, line);) {
    line.erase(0, 1);  // the space after the number
    const size_t tab = line.find('\t');
    all.at(number) = {line.substr(0, tab), tab == line.npos ? line : line.substr(tab + 1)};
  }
  return all;
}

class HfTokenizerFolders : public ::testing::TestWithParam<Case> {};

TEST_P(HfTokenizerFolders, IdsEqualThoseOfTheTokenizersLibrary) {
  const auto tokenizer = coordinator::Tokenizer::Create(Describe(GetParam().folder).tokenizer());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  coordinator::ExpectGoldenIds(**tokenizer, ExpectedIds(GetParam()));
}

TEST_P(HfTokenizerFolders, DescriptionIsTheOneItWasWrittenFrom) {
  v1::TokenizerDescription read = Describe(GetParam().folder).tokenizer();
  v1::TokenizerDescription golden = coordinator::GoldenDescription(GetParam().golden);
  // Around the vocabulary folders say more, and instead of scores they have merges: see the tests
  // below.
  for (v1::TokenizerDescription* description : {&read, &golden}) {
    description->clear_pre_tokenizer_name();
    description->clear_scores();
    if (description->kind() == v1::TOKENIZER_KIND_SENTENCEPIECE_BPE) description->clear_merges();
    description->clear_add_bos();
    description->clear_bos_id();
    description->clear_eos_id();
    description->clear_unk_id();
    description->clear_pad_id();
    description->clear_stop_ids();
    description->clear_space_prefix_at_start_only();
    description->clear_space_prefix_unless_spaced();
  }
  google::protobuf::util::MessageDifferencer differencer;
  std::string difference;
  differencer.ReportDifferencesToString(&difference);
  EXPECT_TRUE(differencer.Compare(golden, read)) << difference.substr(0, 2000);
}

INSTANTIATE_TEST_SUITE_P(All, HfTokenizerFolders,
                         ::testing::Values(Case{"smollm", "smollm"}, Case{"gpt2", "gpt2"},
                                           Case{"llama3", "llama-bpe"}, Case{"qwen2", "qwen2"},
                                           Case{"llama2", "spm-llama"},
                                           Case{"mistral", "spm-llama"},
                                           Case{"some_merges", "spm-llama"}),
                         [](const auto& param_info) { return param_info.param.folder; });

TEST(HfTokenizerFolder, NamesOfPreTokenizersAreTheKnownOnes) {
  EXPECT_EQ(Describe("smollm").tokenizer().pre_tokenizer_name(), "smollm");
  EXPECT_EQ(Describe("gpt2").tokenizer().pre_tokenizer_name(), "gpt-2");
  EXPECT_EQ(Describe("llama3").tokenizer().pre_tokenizer_name(), "llama-bpe");
  EXPECT_EQ(Describe("qwen2").tokenizer().pre_tokenizer_name(), "qwen2");
}

TEST(HfTokenizerFolder, TokensAroundTheText) {
  const std::string text = "<|im_start|>";  // one control token, whatever the merges
  EXPECT_THAT(Encode(Describe("smollm").tokenizer(), text), ElementsAre(1));
  EXPECT_THAT(Encode(Describe("gpt2").tokenizer(), text), ElementsAre(1));
  EXPECT_THAT(Encode(Describe("qwen2").tokenizer(), text), ElementsAre(1));
  EXPECT_THAT(Encode(Describe("llama3").tokenizer(), text), ElementsAre(0, 1));
  EXPECT_THAT(Encode(Describe("llama2").tokenizer(), "</s>"), ElementsAre(1, 2));
}

TEST(HfTokenizerFolder, NamedTokensStopsAndTemplates) {
  const v1::ModelDescription smollm = Describe("smollm");
  EXPECT_EQ(smollm.tokenizer().bos_id(), 1);
  EXPECT_EQ(smollm.tokenizer().eos_id(), 2);
  EXPECT_EQ(smollm.tokenizer().pad_id(), 2);
  EXPECT_THAT(smollm.tokenizer().stop_ids(), ElementsAre(0, 2));
  EXPECT_EQ(smollm.chat_template(), coordinator::ReadGoldenFile("chat_templates/smollm2.jinja"));

  const v1::ModelDescription gpt2 = Describe("gpt2");
  EXPECT_EQ(gpt2.tokenizer().bos_id(), 0);  // written as an object there
  EXPECT_EQ(gpt2.tokenizer().eos_id(), 0);
  EXPECT_THAT(gpt2.chat_template(), IsEmpty());

  EXPECT_THAT(Describe("llama3").tokenizer().stop_ids(), ElementsAre(0, 1, 2));
  EXPECT_EQ(Describe("llama3").tokenizer().bos_id(), 0);
  EXPECT_EQ(Describe("qwen2").chat_template(),  // a file of its own
            coordinator::ReadGoldenFile("chat_templates/qwen2.5.jinja"));
  EXPECT_EQ(Describe("llama2").tokenizer().unk_id(), 0);
  EXPECT_THAT(Describe("llama2").chat_template(), StartsWith("{% if messages"));
}

}  // namespace
}  // namespace tessera::worker
