// Hugging Face folders: the tiny checkpoints, shards with and without an index, and bad headers.
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/worker/files/gguf_builder.h"
#include "tests/worker/files/test_files.h"
#include "worker/files/mapped_file.h"
#include "worker/files/model_file.h"
#include "worker/files/hf/safetensors_reader.h"

namespace tessera::worker {
namespace {

using ::testing::HasSubstr;
using namespace testing;  // NOLINT: the builders of this folder

const char kTinyModels[] = TESSERA_SOURCE_DIR "/tests/golden/tiny_models/";

std::string File(const std::string& header, const std::string& data) {
  return ByteWriter().PutString(header).PutRaw(data).bytes();
}

std::string HeaderError(const std::string& bytes) {
  const TempFolder folder;
  const auto file = MappedFile::Open(folder.Write("model.safetensors", bytes));
  if (!file.ok()) return MessageOf(file.status());
  const auto tensors = ReadSafetensorsHeader(**file);
  EXPECT_FALSE(tensors.ok());
  const std::string message = MessageOf(tensors.status());
  EXPECT_THAT(message, HasSubstr("model.safetensors"));
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  return message;
}

// The error of a file with one entry (JSON) named "w" and `data_bytes` bytes of data.
std::string EntryError(const std::string& entry, size_t data_bytes) {
  return HeaderError(File(absl::StrCat("{\"w\":", entry, "}"), std::string(data_bytes, 'x')));
}

TEST(Safetensors, ReadsEntries) {
  const TempFolder folder;
  const auto file = MappedFile::Open(folder.Write(
      "m.safetensors", File(R"({"__metadata__":{"format":"pt"},
          "b":{"dtype":"F16","shape":[3],"data_offsets":[8,14]},
          "a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},
          "ids":{"dtype":"I64","shape":[],"data_offsets":[14,22]}})",
                            std::string(22, '\0'))));
  ASSERT_TRUE(file.ok());
  const auto tensors = ReadSafetensorsHeader(**file);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 3u);
  EXPECT_EQ((*tensors)[0].name, "a");
  EXPECT_EQ((*tensors)[0].type, v1::DATA_TYPE_F32);
  EXPECT_EQ((*tensors)[1].bytes, 6u);
  EXPECT_EQ((*tensors)[2].type, v1::DATA_TYPE_UNSPECIFIED);
}

TEST(Safetensors, LyingEntries) {
  EXPECT_THAT(EntryError(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4),
              HasSubstr("w: expected 8 bytes for F32 (2), data_offsets have 4"));
  EXPECT_THAT(EntryError(R"({"dtype":"F32","shape":[4294967296,4294967296],)"
                         R"("data_offsets":[0,4]})", 4),
              HasSubstr("expected too many bytes"));
  EXPECT_THAT(EntryError(R"({"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]})", 4),
              HasSubstr("data_offsets have 4"));  // an exabyte
  EXPECT_THAT(EntryError(R"({"dtype":"F32","shape":[1],"data_offsets":[0,8]})", 4),
              HasSubstr("within 0 .. 4, found [0, 8)"));
  EXPECT_THAT(EntryError(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 4),
              HasSubstr("found [4, 0)"));
  EXPECT_THAT(EntryError(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", 4),
              HasSubstr("whole numbers"));
  EXPECT_THAT(EntryError(R"({"dtype":"F32","shape":[1],"data_offsets":[-4,0]})", 4),
              HasSubstr("data_offsets"));
  EXPECT_THAT(EntryError(R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,4]})", 4),
              HasSubstr("whole numbers"));
  EXPECT_THAT(EntryError(R"({"dtype":"F31","shape":[1],"data_offsets":[0,4]})", 4),
              HasSubstr("unknown dtype \\\"F31\\\""));
  EXPECT_THAT(EntryError(R"({"dtype":7,"shape":[1],"data_offsets":[0,4]})", 4), HasSubstr("dtype"));
  EXPECT_THAT(EntryError("null", 4), HasSubstr("w: expected dtype"));
  EXPECT_THAT(EntryError("[1,2]", 4), HasSubstr("w: expected dtype"));
}

TEST(Safetensors, HolesOverlapsAndRest) {
  const auto two = [](const char* a, const char* b, size_t bytes) {
    return HeaderError(File(absl::StrCat(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":)", a,
                                         R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":)", b,
                                         "}}"),
                            std::string(bytes, 'x')));
  };
  EXPECT_THAT(two("[0,4]", "[8,12]", 12), HasSubstr("b: expected data at 4, data_offsets begin "
                                                    "at 8 (hole)"));
  EXPECT_THAT(two("[0,4]", "[2,6]", 8), HasSubstr("(overlap)"));
  EXPECT_THAT(two("[0,4]", "[0,4]", 4), HasSubstr("(overlap)"));
  EXPECT_THAT(two("[0,4]", "[4,8]", 9), HasSubstr("bytes, the file has"));
  EXPECT_THAT(two("[4,8]", "[8,12]", 12), HasSubstr("(hole)"));
}

TEST(Safetensors, BadHeaders) {
  const std::string entry = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_THAT(HeaderError(File("{\"w\":" + entry + ",\"w\":" + entry + "}", "xxxx")),
              HasSubstr("key \"w\" appears twice"));
  EXPECT_THAT(HeaderError(File(" {}", "")), HasSubstr("start with '{'"));
  EXPECT_THAT(HeaderError(File("", "")), HasSubstr("start with '{'"));
  EXPECT_THAT(HeaderError(File("{\"w\":", "")), HasSubstr("expected JSON"));
  EXPECT_THAT(HeaderError(File("{} x", "")), HasSubstr("expected JSON"));
  EXPECT_THAT(HeaderError(File("{\"\xff\":1}", "")), HasSubstr("expected JSON"));
  EXPECT_THAT(HeaderError(File(R"({"__metadata__":{"a":1}})", "")), HasSubstr("__metadata__"));
  EXPECT_THAT(HeaderError(ByteWriter().Put<uint64_t>(100'000'001).bytes()),
              HasSubstr("at most 100000000 bytes"));
  EXPECT_THAT(HeaderError(ByteWriter().Put<uint64_t>(UINT64_MAX).PutRaw("{}").bytes()),
              HasSubstr("header"));
  EXPECT_THAT(HeaderError(ByteWriter().Put<uint64_t>(50).PutRaw("{}").bytes()),
              HasSubstr("truncated"));
  EXPECT_THAT(HeaderError("abc"), HasSubstr("truncated"));
  EXPECT_THAT(HeaderError(File("{\"w\":" + std::string(1'000'000, '[') + "}", "")),
              HasSubstr("nested deeper"));
}

TEST(Safetensors, CutAndBentHeader) {
  const std::string whole = ReadWhole(std::string(kTinyModels) + "mistral/model.safetensors");
  uint64_t header = 0;
  ASSERT_GT(whole.size(), sizeof(header));
  std::memcpy(&header, whole.data(), sizeof(header));
  // A short data part keeps this quick; the header alone is what is read.
  const TempFolder folder;
  for (uint64_t size = 0; size <= header + 8; size += size < 64 ? 1 : 7) {
    const auto file = MappedFile::Open(folder.Write("cut.safetensors", whole.substr(0, size)));
    if (file.ok()) {
      EXPECT_FALSE(ReadSafetensorsHeader(**file).ok()) << size;
    }
  }
  std::string bent = whole;
  for (uint64_t byte = 0; byte < header + 8; ++byte) {
    bent[byte] = static_cast<char>(whole[byte] ^ (1 << (byte % 8)));
    const auto file = MappedFile::Open(folder.Write("bent.safetensors", bent));
    ASSERT_TRUE(file.ok());
    const auto tensors = ReadSafetensorsHeader(**file);
    if (!tensors.ok()) {
      EXPECT_EQ(MessageOf(tensors.status()).find('\n'), std::string::npos);
    }
    bent[byte] = whole[byte];
  }
}

class Folder : public ::testing::Test {
 protected:
  // A copy of a tiny checkpoint that a test may spoil.
  void Copy(const std::string& model) {
    for (const auto& file : std::filesystem::directory_iterator(kTinyModels + model)) {
      folder_.Write(file.path().filename().string(), ReadWhole(file.path().string()));
    }
    ASSERT_TRUE(std::filesystem::exists(folder_.Path("config.json"))) << model;
  }
  void Replace(const std::string& file, const std::string& from, const std::string& to) {
    std::string text = ReadWhole(folder_.Path(file));
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    folder_.Write(file, text.replace(at, from.size(), to));
  }
  TempFolder folder_;
};

TEST_F(Folder, EveryTinyModelOpens) {
  for (const char* name :
       {"llama", "llama_linear", "qwen2", "qwen3", "mistral", "mistral_yarn"}) {
    const auto model = OpenModel(std::string(kTinyModels) + name + "/", LoadFormat::kAuto);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->description().name(), name);
    EXPECT_EQ((*model)->description().weight_format(), "safetensors");
    EXPECT_EQ((*model)->description().architecture().layer_kinds(0).attention().rope().pairing(), v1::ROPE_PAIRING_HALF_SPLIT);
    EXPECT_EQ((*model)->description().tokenizer().kind(), v1::TOKENIZER_KIND_UNSPECIFIED);
    EXPECT_THAT((*model)->description().tokenizer().stop_ids(), ::testing::ElementsAre(2));
  }
}

TEST_F(Folder, ShardsWithAndWithoutIndex) {
  Copy("qwen2");
  const auto with = OpenModel(folder_.path(), LoadFormat::kAuto);
  ASSERT_TRUE(with.ok()) << with.status();
  std::filesystem::remove(folder_.Path("model.safetensors.index.json"));
  const auto without = OpenModel(folder_.path(), LoadFormat::kSafetensors);
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_EQ((*with)->description().SerializeAsString(),
            (*without)->description().SerializeAsString());
}

TEST_F(Folder, IndexAndShardsDisagree) {
  const char* index = "model.safetensors.index.json";
  Copy("qwen2");
  Replace(index, "model.norm.weight", "model.other.weight");
  EXPECT_THAT(OpenError(folder_.path()), HasSubstr("model.norm.weight: expected in no file"));
  Copy("qwen2");
  Replace(index, "\"weight_map\": {", "\"weight_map\": {\"ghost\": \"model-00001-of-00002.safetensors\",");
  EXPECT_THAT(OpenError(folder_.path()), HasSubstr("ghost: expected in model-00001"));
  Copy("qwen2");
  Replace(index, "model-00001-of-00002.safetensors", "../../etc/passwd.safetensors");
  EXPECT_THAT(OpenError(folder_.path()), HasSubstr("expected a file name"));
  Copy("qwen2");
  std::filesystem::remove(folder_.Path("model-00002-of-00002.safetensors"));
  EXPECT_THAT(OpenError(folder_.path()), HasSubstr("model-00002-of-00002.safetensors"));
  std::filesystem::remove(folder_.Path(index));
  EXPECT_THAT(OpenError(folder_.path()),
              HasSubstr("/model-00002-of-00002.safetensors: expected beside "
                        "model-00001-of-00002.safetensors, no such file"));
}

TEST_F(Folder, TheSameTensorInTwoFiles) {
  Copy("mistral");
  std::filesystem::copy_file(folder_.Path("model.safetensors"), folder_.Path("one.safetensors"));
  std::filesystem::rename(folder_.Path("model.safetensors"), folder_.Path("two.safetensors"));
  EXPECT_THAT(OpenError(folder_.path()), HasSubstr("already in one.safetensors"));
}

// As folders of Mistral have them.
TEST_F(Folder, TheSameWeightsUnderOtherNamesAreNotRead) {
  Copy("mistral");
  const auto alone = OpenModel(folder_.path(), LoadFormat::kAuto);
  ASSERT_TRUE(alone.ok()) << alone.status();
  folder_.Write("consolidated.safetensors", "not even a header");
  const auto both = OpenModel(folder_.path(), LoadFormat::kAuto);
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ((*both)->description().SerializeAsString(),
            (*alone)->description().SerializeAsString());
}

TEST_F(Folder, WithoutTokenizerJsonThereAreIdsOnly) {
  Copy("mistral");
  folder_.Write("tokenizer_config.json",
                R"({"bos_token":"<s>","add_bos_token":true,"chat_template":"T"})");
  const auto model = OpenModel(folder_.path(), LoadFormat::kAuto);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->description().tokenizer().kind(), v1::TOKENIZER_KIND_UNSPECIFIED);
  EXPECT_EQ((*model)->description().tokenizer().tokens_size(), 0);
  EXPECT_THAT((*model)->description().tokenizer().stop_ids(), ::testing::ElementsAre(2));
}

TEST_F(Folder, CutAtEveryFourKilobytes) {
  Copy("mistral");
  const std::string whole = ReadWhole(folder_.Path("model.safetensors"));
  ASSERT_GT(whole.size(), 4096u);
  for (size_t size = whole.size() - 1; size > 4096; size -= 4096) {
    folder_.Write("model.safetensors", whole.substr(0, size));
    EXPECT_THAT(OpenError(folder_.path()), HasSubstr("model.safetensors"));
  }
}

TEST_F(Folder, ShapesAgainstTheConfig) {
  Copy("mistral");
  Replace("config.json", "\"intermediate_size\": 110", "\"intermediate_size\": 112");
  EXPECT_THAT(OpenError(folder_.path()),
              HasSubstr("model.layers.0.mlp.gate_proj.weight: expected (112, 64), file has "
                        "(110, 64)"));
  Copy("mistral");
  Replace("config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
  const auto tied = OpenModel(folder_.path(), LoadFormat::kAuto);
  ASSERT_TRUE(tied.ok()) << tied.status();  // the head that lies there is not used
  EXPECT_TRUE((*tied)->description().architecture().tied_embeddings());
}

TEST_F(Folder, NothingToLoad) {
  EXPECT_THAT(OpenError(folder_.path()), HasSubstr("no config.json"));
  Copy("mistral");
  std::filesystem::remove(folder_.Path("model.safetensors"));
  EXPECT_THAT(OpenError(folder_.path()), HasSubstr("expected *.safetensors, found none"));
}

}  // namespace
}  // namespace tessera::worker
