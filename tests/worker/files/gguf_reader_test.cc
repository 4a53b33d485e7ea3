// GGUF files that are right, cut short, bent, or lying.
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tests/worker/files/gguf_builder.h"
#include "tests/worker/files/test_files.h"
#include "worker/files/model_file.h"

namespace tessera::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace testing;  // NOLINT: the builders of this folder

std::string ErrorOf(const GgufBuilder& gguf) {
  const TempFolder folder;
  const std::string path = folder.Write("bad.gguf", gguf.Build());
  const std::string message = OpenError(path);
  EXPECT_THAT(message, HasSubstr("bad.gguf"));
  return message;
}

TEST(GgufReader, OpensAWholeModel) {
  const TempFolder folder;
  const auto model =
      OpenModel(folder.Write("tiny.Q4.gguf", TinyLlamaGguf().Build()), LoadFormat::kAuto);
  ASSERT_TRUE(model.ok()) << model.status();
  const v1::ModelDescription& description = (*model)->description();
  EXPECT_EQ(description.name(), "tiny.Q4");
  EXPECT_EQ(description.weight_format(), "gguf");
  EXPECT_EQ(description.quantization(), "F32");
  const v1::Architecture& arch = description.architecture();
  EXPECT_EQ(arch.num_layers(), 2);
  EXPECT_EQ(arch.layer_kinds(0).attention().head_dim(), 4);
  EXPECT_EQ(arch.vocab_size(), 7);
  EXPECT_EQ(arch.layer_kinds(0).attention().rope().pairing(), v1::ROPE_PAIRING_INTERLEAVED);
  EXPECT_TRUE(arch.tied_embeddings());
  EXPECT_EQ(arch.layer_kinds(0).feed_forward().granularity(), 1);
  ASSERT_EQ(description.tensors_size(), 1 + 2 * 9 + 1);
  EXPECT_EQ(description.tensors(2).name(), "layers.0.wq");
  EXPECT_EQ(description.tensors(2).resident_bytes(), 12 * 12 * 4);
}

TEST(GgufReader, ReadsRowsAndColumnsWhereTheyAre) {
  const TempFolder folder;
  const auto model =
      OpenModel(folder.Write("tiny.gguf", TinyLlamaGguf().Build()), LoadFormat::kGguf);
  ASSERT_TRUE(model.ok()) << model.status();
  // blk.0.ffn_down.weight is tensor 9 of the file: element i is 9 + i; (12, 10).
  std::vector<float> slice(2 * 3);
  ASSERT_TRUE((*model)->ReadSlice("layers.0.w_down", 4, 6, 7, 10, slice.data()).ok());
  EXPECT_THAT(slice, ::testing::ElementsAre(9 + 47, 9 + 48, 9 + 49, 9 + 57, 9 + 58, 9 + 59));
  EXPECT_EQ((*model)->ReadSlice("layers.0.w_down", 4, 13, 7, 10, slice.data()).code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ((*model)->ReadSlice("layers.9.wq", 0, 1, 0, 1, slice.data()).code(),
            absl::StatusCode::kInternal);
}

TEST(GgufReader, VersionTwoIsTheSame) {
  GgufBuilder gguf = TinyLlamaGguf();
  gguf.version = 2;
  const TempFolder folder;
  EXPECT_TRUE(OpenModel(folder.Write("v2.gguf", gguf.Build()), LoadFormat::kAuto).ok());
  gguf.version = 1;
  EXPECT_THAT(ErrorOf(gguf), HasSubstr("expected 2 or 3, file has 1"));
  gguf.version = 0x03000000;
  EXPECT_THAT(ErrorOf(gguf), HasSubstr("big-endian"));
}

TEST(GgufReader, NamesTensorExpectedAndActual) {
  GgufBuilder gguf = TinyLlamaGguf();
  *gguf.Find("blk.1.attn_k.weight") = {"blk.1.attn_k.weight", {12, 12}, kGgmlF32,
                                       CountingFloats(144, 0), {}};
  EXPECT_THAT(ErrorOf(gguf), HasSubstr("blk.1.attn_k.weight: expected (4, 12), file has (12, 12)"));
  gguf = TinyLlamaGguf();
  gguf.Find("blk.1.ffn_up.weight")->name = "blk.1.ffn_upp.weight";
  EXPECT_THAT(ErrorOf(gguf), HasSubstr("blk.1.ffn_up.weight: expected (10, 12), the file has none"));
}

// The tiny Llama's keys under another family's name.
GgufBuilder Renamed(const std::string& family) {
  GgufBuilder gguf = TinyLlamaGguf();
  for (GgufPair& pair : gguf.pairs) {
    if (pair.key.starts_with("llama.")) pair.key.replace(0, 5, family);
  }
  gguf.FindPair("general.architecture")->value = ByteWriter().PutString(family).bytes();
  return gguf;
}

// Phi-3 keeps queries, keys and values in one tensor, and gate and up in another.
GgufBuilder TinyPhi3Gguf() {
  GgufBuilder gguf = Renamed("phi3");
  for (int layer = 0; layer < kTinyLayers; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    for (const char* gone : {"attn_k.weight", "attn_v.weight", "ffn_gate.weight"}) {
      std::erase_if(gguf.tensors, [&](const GgufTensor& t) { return t.name == prefix + gone; });
    }
    const int64_t rows = kTinyHidden + 2 * kTinyKeys;
    *gguf.Find(prefix + "attn_q.weight") = {prefix + "attn_qkv.weight", {rows, kTinyHidden},
                                            kGgmlF32, CountingFloats(rows * kTinyHidden, 0), {}};
    *gguf.Find(prefix + "ffn_up.weight") = {prefix + "ffn_up.weight", {2 * kTinyFfn, kTinyHidden},
                                            kGgmlF32,
                                            CountingFloats(2 * kTinyFfn * kTinyHidden, 0), {}};
  }
  return gguf;
}

TEST(GgufReader, TensorsThatShareOneAreItsRows) {
  const TempFolder folder;
  const auto model =
      OpenModel(folder.Write("phi3.gguf", TinyPhi3Gguf().Build()), LoadFormat::kAuto);
  ASSERT_TRUE(model.ok()) << model.status();
  const v1::ModelDescription& description = (*model)->description();
  EXPECT_EQ(description.quantization(), "F32");
  const struct {
    const char* name;
    int64_t rows;
    int64_t first;  // row of the shared tensor
  } parts[] = {{"layers.1.wq", 12, 0},
               {"layers.1.wk", 4, 12},
               {"layers.1.wv", 4, 16},
               {"layers.1.w_gate", 10, 0},
               {"layers.1.w_up", 10, 10}};
  for (const auto& part : parts) {
    SCOPED_TRACE(part.name);
    std::vector<float> slice(2 * 3);
    for (int64_t row = 0; row + 2 <= part.rows; ++row) {
      ASSERT_TRUE((*model)->ReadSlice(part.name, row, row + 2, 5, 8, slice.data()).ok());
      const auto at = static_cast<float>((part.first + row) * kTinyHidden + 5);
      EXPECT_THAT(slice, ::testing::ElementsAre(at, at + 1, at + 2, at + 12, at + 13, at + 14));
    }
    // Rows behind a part's own are another's.
    EXPECT_EQ(
        (*model)->ReadSlice(part.name, part.rows - 1, part.rows + 1, 5, 8, slice.data()).code(),
        absl::StatusCode::kInternal);
  }

  GgufBuilder wrong = TinyPhi3Gguf();
  wrong.Find("blk.1.attn_qkv.weight")->shape = {12, 20};
  EXPECT_THAT(ErrorOf(wrong), HasSubstr("blk.1.attn_qkv.weight: expected (20, 12), file has"));
  wrong = TinyPhi3Gguf();
  wrong.Find("blk.1.attn_qkv.weight")->name = "blk.1.attn_qqq.weight";
  EXPECT_THAT(ErrorOf(wrong),
              HasSubstr("blk.1.attn_qkv.weight: expected (20, 12), the file has none"));
}

TEST(GgufReader, LongropeIsRefusedByName) {
  GgufBuilder gguf = TinyPhi3Gguf();
  gguf.tensors.push_back({"rope_factors_long.weight", {2}, kGgmlF32, CountingFloats(2, 1), {}});
  EXPECT_THAT(ErrorOf(gguf), HasSubstr("rope_factors_long.weight: rope type longrope"));
}

TEST(GgufReader, PartsOfAHeadTurnWhereTheFamilyKnowsThat) {
  GgufBuilder gguf = TinyPhi3Gguf();
  gguf.AddUint32("phi3.rope.dimension_count", 2);
  const TempFolder folder;
  const auto model = OpenModel(folder.Write("part.gguf", gguf.Build()), LoadFormat::kAuto);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(
      (*model)->description().architecture().layer_kinds(0).attention().rope().rotary_dim(), 2);
  gguf.FindPair("phi3.rope.dimension_count")->value = ByteWriter().Put<uint32_t>(3).bytes();
  EXPECT_THAT(ErrorOf(gguf), HasSubstr("phi3.rope.dimension_count 3; supported"));
  gguf = TinyLlamaGguf();
  gguf.AddUint32("llama.rope.dimension_count", 2);
  EXPECT_THAT(ErrorOf(gguf), HasSubstr("llama.rope.dimension_count 2; supported"));
}

TEST(GgufReader, MultipliersAreGranites) {
  GgufBuilder gguf = Renamed("granite");
  gguf.AddFloat("granite.embedding_scale", 12);
  gguf.AddFloat("granite.residual_scale", 0.25f);
  gguf.AddFloat("granite.attention.scale", 0.5f);
  gguf.AddFloat("granite.logit_scale", 8);
  const TempFolder folder;
  const auto model = OpenModel(folder.Write("granite.gguf", gguf.Build()), LoadFormat::kAuto);
  ASSERT_TRUE(model.ok()) << model.status();
  const v1::Architecture& arch = (*model)->description().architecture();
  EXPECT_EQ(arch.embedding_multiplier(), 12);
  EXPECT_EQ(arch.logit_scale(), 0.125f);
  EXPECT_EQ(arch.layer_kinds(0).residual_multiplier(), 0.25f);
  EXPECT_EQ(arch.layer_kinds(0).attention().scale(), 0.5f);

  gguf.AddBool("granite.rope.scaling.finetuned", false);
  EXPECT_THAT(ErrorOf(gguf), HasSubstr("granite.rope.scaling.finetuned false; supported: true"));
  gguf = Renamed("granite");
  gguf.AddFloat("granite.logit_scale", 1e-20f);
  EXPECT_THAT(ErrorOf(gguf), HasSubstr("granite.logit_scale: expected 0 or a number from 1e-9"));
  for (const char* key : {"logit_scale", "residual_scale", "embedding_scale", "attention.scale"}) {
    GgufBuilder llama = TinyLlamaGguf();
    llama.AddFloat(std::string("llama.") + key, 2);
    EXPECT_THAT(ErrorOf(llama), HasSubstr(std::string("llama.") + key + " 2; supported: none"));
  }
}

TEST(GgufReader, RefusesATensorItWouldHaveToIgnore) {
  GgufBuilder gguf = TinyLlamaGguf();
  gguf.tensors.push_back({"blk.0.attn_output.bias", {12}, kGgmlF32, CountingFloats(12, 0), {}});
  EXPECT_THAT(ErrorOf(gguf), HasSubstr("blk.0.attn_output.bias"));
}

TEST(GgufReader, LyingTensorEntries) {
  const auto with = [](auto change) {
    GgufBuilder gguf = TinyLlamaGguf();
    change(*gguf.Find("blk.0.attn_q.weight"));
    return ErrorOf(gguf);
  };
  using T = GgufTensor&;
  EXPECT_THAT(with([](T t) { t.shape = {int64_t{1} << 40, int64_t{1} << 40}; }),
              HasSubstr("blk.0.attn_q.weight"));
  EXPECT_THAT(with([](T t) { t.shape = {int64_t{1} << 60}; }),  // exabytes
              HasSubstr("blk.0.attn_q.weight"));
  EXPECT_THAT(with([](T t) { t.shape = {INT64_MAX, 4}; }), HasSubstr("overflows"));
  EXPECT_THAT(with([](T t) { t.shape = {-1, 12}; }), HasSubstr("dimension 1: expected at least 1"));
  EXPECT_THAT(with([](T t) { t.shape = {0, 12}; }), HasSubstr("expected at least 1, file has 0"));
  EXPECT_THAT(with([](T t) { t.shape = {1, 1, 1, 1, 1}; }), HasSubstr("expected 1 .. 4 dimensions"));
  EXPECT_THAT(with([](T t) { t.shape = {}; }), HasSubstr("expected 1 .. 4 dimensions, file has 0"));
  EXPECT_THAT(with([](T t) { t.type = 10; }), HasSubstr("type Q2_K; supported: F32"));
  EXPECT_THAT(with([](T t) { t.type = 4711; }), HasSubstr("file has number 4711"));
  EXPECT_THAT(with([](T t) { t.type = kGgmlQ4_0; }), HasSubstr("rows in multiples of 32"));
  EXPECT_THAT(with([](T t) { t.offset = 7; }), HasSubstr("multiples of 32, file has 7"));
  EXPECT_THAT(with([](T t) { t.offset = UINT64_MAX - 31; }), HasSubstr("blk.0.attn_q.weight"));
  EXPECT_THAT(with([](T t) { t.offset = uint64_t{1} << 40; }), HasSubstr("truncated?"));
  EXPECT_THAT(with([](T t) { t.offset = 0; }), HasSubstr("overlaps"));
  EXPECT_THAT(with([](T t) { t.name = "blk.0.attn_k.weight"; }), HasSubstr("appears twice"));
  EXPECT_THAT(with([](T t) { t.name = ""; }), HasSubstr("name is empty"));
  EXPECT_THAT(with([](T t) { t.name = std::string(65, 'n'); }), HasSubstr("expected at most 64"));
  EXPECT_THAT(with([](T t) { t.name = "two\nlines"; }),
              HasSubstr("blk.0.attn_q.weight: expected (12, 12), the file has none"));
}

TEST(GgufReader, LyingCounts) {
  for (const uint64_t count : {uint64_t{1000}, uint64_t{1} << 32, UINT64_MAX}) {
    GgufBuilder gguf = TinyLlamaGguf();
    gguf.tensor_count = count;
    EXPECT_FALSE(ErrorOf(gguf).empty());
    gguf = TinyLlamaGguf();
    gguf.pair_count = count;
    EXPECT_FALSE(ErrorOf(gguf).empty());
  }
}

TEST(GgufReader, LyingMetadata) {
  const auto with = [](const char* key, uint32_t type, const std::string& value) {
    GgufBuilder gguf = TinyLlamaGguf();
    gguf.ErasePair(key);
    gguf.pairs.insert(gguf.pairs.begin(), {key, type, value});
    return ErrorOf(gguf);
  };
  const auto u32 = [](uint32_t value) { return ByteWriter().Put(value).bytes(); };
  const auto u64 = [](uint64_t value) { return ByteWriter().Put(value).bytes(); };
  EXPECT_THAT(with("general.alignment", 8, ByteWriter().PutString("32").bytes()),
              HasSubstr("general.alignment: expected uint32, file has string"));
  EXPECT_THAT(with("general.alignment", 4, u32(0)), HasSubstr("general.alignment: expected"));
  EXPECT_THAT(with("general.alignment", 4, u32(48)), HasSubstr("a power of two, file has 48"));
  EXPECT_THAT(with("general.alignment", 4, u32(0x80000000)), HasSubstr("general.alignment"));
  EXPECT_THAT(with("llama.block_count", 4, u32(0)), HasSubstr("llama.block_count: expected"));
  EXPECT_THAT(with("llama.block_count", 4, u32(100000)), HasSubstr("num_layers is 100000; expected 1 .. 4096"));
  EXPECT_THAT(with("llama.block_count", 6, ByteWriter().Put(2.0f).bytes()),
              HasSubstr("llama.block_count: expected a whole number"));
  EXPECT_THAT(with("llama.block_count", 10, u64(UINT64_MAX)), HasSubstr("llama.block_count"));
  EXPECT_THAT(with("llama.attention.head_count", 4, u32(5)), HasSubstr("multiple of the 5 heads"));
  EXPECT_THAT(with("llama.attention.head_count_kv", 4, u32(2)), HasSubstr("num_kv_heads is 2; expected a divisor of the 3 query heads"));
  EXPECT_THAT(with("general.architecture", 8, ByteWriter().PutString("mamba").bytes()),
              AllOf(HasSubstr("architecture mamba"),
                    HasSubstr("supported: llama, qwen2, qwen3, smollm3, granite, olmo2, phi3")));
  EXPECT_THAT(with("x", 99, ""), HasSubstr("expected a value type 0 .. 12, the file says 99"));
  EXPECT_THAT(with("x", 7, "\x02"), HasSubstr("expected a bool of 0 or 1"));
  EXPECT_THAT(with("x", 8, u64(UINT64_MAX)), HasSubstr("x: expected"));
  EXPECT_THAT(with("x", 9, u32(8) + u64(uint64_t{1} << 60)), HasSubstr("x: expected"));
  EXPECT_THAT(with("x", 9, u32(10) + u64((uint64_t{1} << 61) + 1)), HasSubstr("x: expected"));
  std::string nested;  // arrays of one array, far too deep
  for (int i = 0; i < 5000; ++i) nested += u32(9) + u64(1);
  EXPECT_THAT(with("x", 9, nested), HasSubstr("nested deeper"));
  EXPECT_THAT(with("two\nlines", 99, ""), HasSubstr("two\\nlines"));

  GgufBuilder twice = TinyLlamaGguf();
  twice.AddUint32("llama.block_count", 2);
  EXPECT_THAT(ErrorOf(twice), HasSubstr("llama.block_count: key appears twice"));
}

TEST(GgufReader, NotGgufAtAll) {
  const TempFolder folder;
  EXPECT_THAT(OpenError(folder.Write("a.gguf", "PK\x03\x04 this is a zip")), HasSubstr("GGUF"));
  EXPECT_THAT(OpenError(folder.Write("b.gguf", "")), HasSubstr("empty"));
  EXPECT_THAT(OpenError(folder.Path("none.gguf")), HasSubstr("no such file"));
  EXPECT_THAT(OpenError(folder.path(), LoadFormat::kGguf), HasSubstr("regular file"));
}

TEST(GgufReader, CutAtEveryByteOfTheHeader) {
  const std::string whole = TinyLlamaGguf().Build();
  const size_t header = TinyLlamaGguf().BuildHeader().size();
  const TempFolder folder;
  for (size_t size = 0; size <= header; ++size) {
    OpenError(folder.Write("cut.gguf", whole.substr(0, size)), LoadFormat::kGguf);
  }
}

// A byte with one bit wrong either makes another valid file, whose every tensor then reads, or one
// line of complaint. Under the sanitizers this is the test that nothing is read out of bounds.
TEST(GgufReader, EveryBitOfTheHeaderFlipped) {
  const std::string whole = TinyLlamaGguf().Build();
  const size_t header = TinyLlamaGguf().BuildHeader().size();
  const TempFolder folder;
  int opened = 0;
  for (size_t bit = 0; bit < header * 8; ++bit) {
    std::string bent = whole;
    bent[bit / 8] = static_cast<char>(bent[bit / 8] ^ (1 << (bit % 8)));
    const auto model = OpenModel(folder.Write("bent.gguf", bent), LoadFormat::kGguf);
    if (!model.ok()) {
      EXPECT_THAT(MessageOf(model.status()), HasSubstr("bent.gguf"));
      EXPECT_EQ(MessageOf(model.status()).find('\n'), std::string::npos);
      continue;
    }
    ++opened;
    for (const v1::TensorDescription& tensor : (*model)->description().tensors()) {
      std::string out(static_cast<size_t>(tensor.resident_bytes()), '\0');
      const int64_t rows = tensor.shape_size() == 2 ? tensor.shape(0) : 1;
      const int64_t cols = tensor.shape(tensor.shape_size() - 1);
      EXPECT_TRUE((*model)->ReadSlice(tensor.name(), 0, rows, 0, cols, out.data()).ok());
    }
  }
  EXPECT_GT(opened, 0);
  EXPECT_LT(opened, static_cast<int>(header * 8));
}

TEST(GgufReader, RandomBytesAfterAValidBeginning) {
  const TempFolder folder;
  uint64_t state = 1;
  for (int round = 0; round < 500; ++round) {
    std::string bytes = TinyLlamaGguf().Build();
    for (int i = 0; i < 20; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      bytes[24 + (state >> 33) % (bytes.size() - 24)] = static_cast<char>(state >> 24);
    }
    const auto model = OpenModel(folder.Write("noise.gguf", bytes), LoadFormat::kGguf);
    if (!model.ok()) {
      EXPECT_EQ(MessageOf(model.status()).find('\n'), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace tessera::worker
