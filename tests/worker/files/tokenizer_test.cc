// Tokenizer descriptions out of tokenizer.json and its neighbours, and out of GGUF metadata.
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/worker/files/gguf_builder.h"
#include "tests/worker/files/test_files.h"
#include "worker/files/model_file.h"
#include "worker/files/pre_tokenizers.h"

namespace tessera::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace testing;  // NOLINT: the builders of this folder

const char kByteLevel[] = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})";

// A tokenizer.json with these members beside model and added_tokens.
std::string ByteLevelJson(const std::string& members, const std::string& merges) {
  return absl::StrCat(R"({"added_tokens":[
      {"id":3,"content":"<s>","special":true},{"id":4,"content":"<|im_end|>","special":true},
      {"id":6,"content":"word","special":false}],)",
                      members, R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":)",
                      merges, "}}");
}

class HfTokenizer : public ::testing::Test {
 protected:
  HfTokenizer() {
    Write("config.json", ReadWhole(TESSERA_SOURCE_DIR
                                   "/tests/golden/tiny_models/mistral/config.json"));
  }
  void Write(const std::string& name, const std::string& text) { folder_.Write(name, text); }
  // The dummy format reads the folder's tokenizer and needs no weights.
  v1::ModelDescription Open() {
    const auto model = OpenModel(folder_.path(), LoadFormat::kDummy);
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? (*model)->description() : v1::ModelDescription();
  }
  std::string Error(const std::string& tokenizer_json) {
    Write("tokenizer.json", tokenizer_json);
    return OpenError(folder_.path(), LoadFormat::kDummy);
  }
  TempFolder folder_;
};

TEST_F(HfTokenizer, ByteLevel) {
  Write("tokenizer.json",
        ByteLevelJson(absl::StrCat(R"("normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence",
            "pretokenizers":[{"type":"Digits","individual_digits":true},)", kByteLevel, "]},"),
                      R"(["a b"])"));
  Write("tokenizer_config.json", R"({"eos_token":{"content":"<|im_end|>"},"chat_template":"T"})");
  const v1::ModelDescription model = Open();
  const v1::TokenizerDescription& tokenizer = model.tokenizer();
  EXPECT_EQ(tokenizer.kind(), v1::TOKENIZER_KIND_BYTE_LEVEL_BPE);
  EXPECT_THAT(tokenizer.tokens(), ElementsAre("a", "b", "ab", "<s>", "<|im_end|>", "", "word"));
  EXPECT_THAT(tokenizer.types(), ElementsAre(v1::TOKEN_TYPE_NORMAL, v1::TOKEN_TYPE_NORMAL, v1::TOKEN_TYPE_NORMAL, v1::TOKEN_TYPE_CONTROL,
                                             v1::TOKEN_TYPE_CONTROL, v1::TOKEN_TYPE_UNUSED, v1::TOKEN_TYPE_USER_DEFINED));
  EXPECT_THAT(tokenizer.merges(), ElementsAre("a b"));
  EXPECT_EQ(tokenizer.pre_tokenizer_name(), "smollm");
  EXPECT_THAT(tokenizer.pre_tokenizer_patterns(), ElementsAre(kSingleDigitPattern, kGpt2Pattern));
  EXPECT_TRUE(tokenizer.normalize_nfc());
  EXPECT_EQ(tokenizer.bos_id(), 1);  // config.json's
  EXPECT_EQ(tokenizer.eos_id(), 4);
  EXPECT_FALSE(tokenizer.add_bos());
  EXPECT_THAT(tokenizer.stop_ids(), ElementsAre(2, 4));
  EXPECT_EQ(model.chat_template(), "T");
}

TEST_F(HfTokenizer, SplitPatternMergePairsAndTemplates) {
  const std::string llama3 = FindPreTokenizer("llama-bpe")->patterns[0];
  std::string escaped;
  for (const char c : llama3) escaped += c == '\\' ? std::string("\\\\") : std::string(1, c);
  Write("tokenizer.json",
        ByteLevelJson(absl::StrCat(R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[
            {"type":"Split","pattern":{"Regex":")", escaped, R"("},"behavior":"Isolated",
             "invert":false},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},
            "post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"},
             {"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},
              {"Sequence":{"id":"A","type_id":0}}],
              "special_tokens":{"<s>":{"id":"<s>","ids":[3],"tokens":["<s>"]}}}]},)"),
                      R"([["a","b"]])"));
  Write("generation_config.json", R"({"eos_token_id":[4,5]})");
  Write("tokenizer_config.json",
        R"({"chat_template":[{"name":"tools","template":"X"},{"name":"default","template":"D"}]})");
  v1::ModelDescription model = Open();
  EXPECT_EQ(model.tokenizer().pre_tokenizer_name(), "llama-bpe");
  EXPECT_THAT(model.tokenizer().pre_tokenizer_patterns(), ElementsAre(llama3));
  EXPECT_THAT(model.tokenizer().merges(), ElementsAre("a b"));
  EXPECT_TRUE(model.tokenizer().add_bos());
  EXPECT_EQ(model.tokenizer().bos_id(), 3);
  EXPECT_THAT(model.tokenizer().stop_ids(), ElementsAre(4, 5));
  EXPECT_EQ(model.chat_template(), "D");

  Write("tokenizer_config.json", R"({"add_eos_token":false})");  // says nothing of BOS
  EXPECT_TRUE(Open().tokenizer().add_bos());

  Write("chat_template.jinja", "J");
  Write("tokenizer_config.json", R"({"add_bos_token":false})");
  model = Open();
  EXPECT_FALSE(model.tokenizer().add_bos());
  EXPECT_EQ(model.chat_template(), "J");
}

TEST_F(HfTokenizer, SentencePieceMergesAsTheFileSays) {
  Write("tokenizer.json", R"({"added_tokens":[{"id":0,"content":"<unk>","special":true}],
      "normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},
        {"type":"Replace","pattern":{"String":" "},"content":"▁"}]},
      "pre_tokenizer":null,
      "model":{"type":"BPE","unk_token":"<unk>","byte_fallback":true,
        "vocab":{"<unk>":0,"<0x41>":1,"▁":2,"a":3,"▁a":4,"aa":5},
        "merges":["a a",["▁","a"]]}})");
  const v1::ModelDescription model = Open();
  const v1::TokenizerDescription& tokenizer = model.tokenizer();
  EXPECT_EQ(tokenizer.kind(), v1::TOKENIZER_KIND_SENTENCEPIECE_BPE);
  EXPECT_TRUE(tokenizer.add_space_prefix());
  EXPECT_EQ(tokenizer.unk_id(), 0);
  EXPECT_THAT(tokenizer.types(), ElementsAre(v1::TOKEN_TYPE_UNKNOWN, v1::TOKEN_TYPE_BYTE, v1::TOKEN_TYPE_NORMAL, v1::TOKEN_TYPE_NORMAL,
                                             v1::TOKEN_TYPE_NORMAL, v1::TOKEN_TYPE_NORMAL));
  EXPECT_THAT(tokenizer.merges(), ElementsAre("a a", "▁ a"));
  EXPECT_THAT(tokenizer.scores(), ::testing::IsEmpty());
}

TEST_F(HfTokenizer, Refusals) {
  const std::string pre = absl::StrCat(R"("pre_tokenizer":)", kByteLevel, ",");
  EXPECT_THAT(Error(ByteLevelJson("", "[]")), HasSubstr("ByteLevel pre_tokenizer or byte_fallback"));
  EXPECT_THAT(Error(ByteLevelJson(pre, R"(["ab"])")), HasSubstr("model.merges: entry 0"));
  EXPECT_THAT(Error(ByteLevelJson(pre, R"([["a"]])")), HasSubstr("model.merges: entry 0"));
  EXPECT_THAT(Error(ByteLevelJson(pre, "7")), HasSubstr("model.merges: expected an array"));
  EXPECT_THAT(Error(ByteLevelJson(pre + R"("normalizer":{"type":"NFKC"},)", "[]")),
              HasSubstr("normalizer: not implemented"));
  EXPECT_THAT(Error(ByteLevelJson(R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[
      {"type":"Split","pattern":{"String":" "},"behavior":"Removed","invert":false},
      {"type":"ByteLevel","add_prefix_space":false}]},)", "[]")),
              HasSubstr("pre_tokenizer: not implemented"));
  EXPECT_THAT(Error(ByteLevelJson(pre + R"("post_processor":{"type":"BertProcessing"},)", "[]")),
              HasSubstr("post_processor: not implemented"));
  EXPECT_THAT(Error(R"({"model":{"type":"Unigram","vocab":[]}})"),
              HasSubstr("type Unigram; supported: BPE"));
  EXPECT_THAT(Error(absl::StrCat("{", pre, R"("model":{"vocab":{"a":131},"merges":[]}})")),
              HasSubstr("token \"a\": expected an id below 131"));
  EXPECT_THAT(Error(absl::StrCat("{", pre, R"("model":{"vocab":{"a":-1},"merges":[]}})")),
              HasSubstr("expected an id below 131"));
  EXPECT_THAT(Error(absl::StrCat("{", pre, R"("model":{"vocab":{"a":0,"b":0},"merges":[]}})")),
              HasSubstr("id 0: both"));
  const auto metaspace = [&](const std::string& scheme, const std::string& merges) {
    return Error(absl::StrCat(R"({"pre_tokenizer":{"type":"Metaspace","replacement":"▁","split":false,
        "prepend_scheme":")", scheme, R"("},"model":{"type":"BPE","byte_fallback":true,
        "vocab":{"a":0,"aa":1},"merges":)", merges, "}}"));
  };
  EXPECT_THAT(metaspace("last", R"(["a a"])"), HasSubstr("pre_tokenizer: not implemented"));
  EXPECT_THAT(metaspace("first", "[]"), HasSubstr("model.merges: expected some"));
  EXPECT_THAT(Error("[]"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(Error("{\"model\":"), HasSubstr("tokenizer.json: expected JSON"));
}

v1::TokenizerDescription OpenGguf(const GgufBuilder& gguf) {
  const TempFolder folder;
  const auto model = OpenModel(folder.Write("t.gguf", gguf.Build()), LoadFormat::kAuto);
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? (*model)->description().tokenizer() : v1::TokenizerDescription();
}

std::string GgufError(const GgufBuilder& gguf) {
  const TempFolder folder;
  return OpenError(folder.Write("t.gguf", gguf.Build()));
}

TEST(GgufTokenizer, ByteLevel) {
  const v1::TokenizerDescription tokenizer = OpenGguf(TinyLlamaGguf());
  EXPECT_EQ(tokenizer.kind(), v1::TOKENIZER_KIND_BYTE_LEVEL_BPE);
  EXPECT_THAT(tokenizer.tokens(), ElementsAre("<|endoftext|>", "a", "b", "c", "ab", "abc", "x"));
  EXPECT_EQ(tokenizer.types(0), v1::TOKEN_TYPE_CONTROL);
  EXPECT_EQ(tokenizer.types(6), v1::TOKEN_TYPE_USER_DEFINED);
  EXPECT_THAT(tokenizer.merges(), ElementsAre("a b", "ab c"));
  EXPECT_THAT(tokenizer.stop_ids(), ElementsAre(0));
  EXPECT_FALSE(tokenizer.add_bos());
  EXPECT_FALSE(tokenizer.has_bos_id());
}

TEST(GgufTokenizer, DefaultsByPreTokenizer) {
  GgufBuilder gguf = TinyLlamaGguf();
  gguf.ErasePair("tokenizer.ggml.pre");
  gguf.AddString("tokenizer.ggml.pre", "llama-bpe");
  gguf.AddUint32("tokenizer.ggml.bos_token_id", 0);
  EXPECT_TRUE(OpenGguf(gguf).add_bos());
  EXPECT_TRUE(OpenGguf(gguf).ignore_merges());
  gguf.AddBool("tokenizer.ggml.add_bos_token", false);
  EXPECT_FALSE(OpenGguf(gguf).add_bos());
  gguf.ErasePair("tokenizer.ggml.pre");
  gguf.AddString("tokenizer.ggml.pre", "qwen2");
  EXPECT_TRUE(OpenGguf(gguf).normalize_nfc());
  gguf.ErasePair("tokenizer.ggml.pre");
  gguf.AddString("tokenizer.ggml.pre", "klingon");
  EXPECT_THAT(GgufError(gguf), HasSubstr("klingon; supported: gpt-2, default, smollm, llama-bpe"));
}

TEST(GgufTokenizer, SentencePiece) {
  GgufBuilder gguf = TinyLlamaGguf();
  gguf.ErasePair("tokenizer.ggml.model");
  gguf.AddString("tokenizer.ggml.model", "llama");
  EXPECT_THAT(GgufError(gguf), HasSubstr("tokenizer.ggml.scores: expected 7 entries"));
  gguf.AddArray<float>("tokenizer.ggml.scores", 6, {0, -1, -2, -3, -4, -5, -6});
  const v1::TokenizerDescription tokenizer = OpenGguf(gguf);
  EXPECT_EQ(tokenizer.kind(), v1::TOKENIZER_KIND_SENTENCEPIECE_BPE);
  EXPECT_TRUE(tokenizer.add_bos());
  EXPECT_TRUE(tokenizer.add_space_prefix());
  EXPECT_THAT(tokenizer.scores(), ElementsAre(0, -1, -2, -3, -4, -5, -6));
}

TEST(GgufTokenizer, LyingTables) {
  const auto with = [](const char* key, auto add) {
    GgufBuilder gguf = TinyLlamaGguf();
    gguf.ErasePair(key);
    add(gguf);
    return GgufError(gguf);
  };
  using G = GgufBuilder&;
  EXPECT_THAT(with("tokenizer.ggml.token_type",
                   [](G g) { g.AddArray<int32_t>("tokenizer.ggml.token_type", 5, {1, 1}); }),
              HasSubstr("tokenizer.ggml.token_type: expected 7 entries, one per token, file has 2"));
  EXPECT_THAT(with("tokenizer.ggml.token_type",
                   [](G g) {
                     g.AddArray<int32_t>("tokenizer.ggml.token_type", 5, {1, 1, 9, 1, 1, 1, 1});
                   }),
              HasSubstr("token 2: expected 1 .. 6, file has 9"));
  EXPECT_THAT(with("tokenizer.ggml.merges",
                   [](G g) { g.AddStrings("tokenizer.ggml.merges", {"ab"}); }),
              HasSubstr("entry 0: expected \"left right\""));
  EXPECT_THAT(with("tokenizer.ggml.merges",
                   [](G g) { g.AddStrings("tokenizer.ggml.merges", {""}); }),
              HasSubstr("entry 0: expected \"left right\""));
  EXPECT_THAT(with("tokenizer.ggml.eos_token_id",
                   [](G g) { g.AddUint32("tokenizer.ggml.eos_token_id", 7); }),
              HasSubstr("eos_token_id: expected below 7, file has 7"));
  EXPECT_THAT(with("tokenizer.ggml.model",
                   [](G g) { g.AddString("tokenizer.ggml.model", "bert"); }),
              HasSubstr("bert; supported: gpt2, llama"));
}

}  // namespace
}  // namespace tessera::worker
