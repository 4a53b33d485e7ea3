// Layouts of quantized GGUF models whose FFN and vocabulary do not divide, and whose heads do not
// fall on quantization blocks: the same logits and tokens as one rank.
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/test_models.h"
#include "tests/worker/files/gguf_builder.h"
#include "tests/worker/files/test_files.h"

namespace tessera::worker {
namespace {

using testing::ByteWriter;
using testing::GgufBuilder;

// How a type's blocks lie in the file, and which halves in them are scales.
struct BlockFormat {
  uint32_t type;
  int elements;
  int bytes;
  // Offset of a float16 and its value: chosen so that weights have a spread of about 0.1.
  std::vector<std::pair<int, float>> halves;
};

BlockFormat FormatOf(uint32_t type) {
  switch (type) {
    case testing::kGgmlQ8_0:
      return {type, 32, 34, {{0, 0.001f}}};
    case testing::kGgmlQ4_0:
      return {type, 32, 18, {{0, 0.02f}}};
    case testing::kGgmlQ4_1:
      return {type, 32, 20, {{0, 0.02f}, {2, -0.15f}}};
    case testing::kGgmlQ5_0:
      return {type, 32, 22, {{0, 0.01f}}};
    case testing::kGgmlQ5_1:
      return {type, 32, 24, {{0, 0.01f}, {2, -0.15f}}};
    case testing::kGgmlQ4_K:
      return {type, 256, 144, {{0, 0.0005f}, {2, 0.004f}}};
    case testing::kGgmlQ5_K:
      return {type, 256, 176, {{0, 0.00025f}, {2, 0.004f}}};
    case testing::kGgmlQ6_K:
      return {type, 256, 210, {{208, 0.0001f}}};
    default:
      return {testing::kGgmlF32, 1, 4, {}};
  }
}

// float32 → float16 of normal numbers, rounding towards zero.
uint16_t Half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t exponent = ((bits >> 23) & 0xff) - 127 + 15;
  return static_cast<uint16_t>((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 0x3ff));
}

class RandomGguf {
 public:
  void Add(const std::string& name, std::vector<int64_t> shape, uint32_t type) {
    int64_t elements = 1;
    for (int64_t size : shape) elements *= size;
    std::string data = shape.size() == 1 ? Vector(elements) : Blocks(FormatOf(type), elements);
    const uint32_t stored = shape.size() == 1 ? uint32_t{testing::kGgmlF32} : type;
    gguf.tensors.push_back({name, std::move(shape), stored, std::move(data), {}});
  }

  GgufBuilder gguf;

 private:
  std::string Vector(int64_t elements) {
    ByteWriter out;
    std::uniform_real_distribution<float> around_one(0.5f, 1.5f);
    for (int64_t i = 0; i < elements; ++i) out.Put<float>(around_one(random_));
    return out.bytes();
  }

  std::string Blocks(const BlockFormat& format, int64_t elements) {
    std::string out(elements / format.elements * format.bytes, '\0');
    for (char& byte : out) byte = static_cast<char>(random_());
    for (size_t block = 0; block < out.size(); block += format.bytes) {
      for (const auto& [offset, value] : format.halves) {
        const uint16_t half = Half(value);
        std::memcpy(&out[block + offset], &half, sizeof(half));
      }
    }
    return out;
  }

  std::mt19937 random_{7};
};

struct Shape {
  int hidden, heads, kv_heads, head_dim, ffn, vocab;
};

// attention: of wq, wk, wv; wo: of the output projection; ffn: of the three; head: of the
// embedding.
struct Types {
  uint32_t attention, wo, ffn, head;
};

std::string BuildModel(const Shape& s, const Types& types) {
  RandomGguf random;
  GgufBuilder& gguf = random.gguf;
  gguf.AddString("general.architecture", "llama");
  gguf.AddUint32("llama.block_count", 3);
  gguf.AddUint32("llama.context_length", 256);
  gguf.AddUint32("llama.embedding_length", s.hidden);
  gguf.AddUint32("llama.feed_forward_length", s.ffn);
  gguf.AddUint32("llama.attention.head_count", s.heads);
  gguf.AddUint32("llama.attention.head_count_kv", s.kv_heads);
  gguf.AddUint32("llama.attention.key_length", s.head_dim);
  gguf.AddUint32("llama.attention.value_length", s.head_dim);
  gguf.AddUint32("llama.rope.dimension_count", s.head_dim);
  gguf.AddFloat("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  gguf.AddString("tokenizer.ggml.model", "gpt2");
  gguf.AddString("tokenizer.ggml.pre", "smollm");
  std::vector<std::string> tokens;
  for (int i = 0; i < s.vocab; ++i) tokens.push_back(absl::StrCat("t", i));
  gguf.AddStrings("tokenizer.ggml.tokens", tokens);
  gguf.AddArray<int32_t>("tokenizer.ggml.token_type", 5, std::vector<int32_t>(s.vocab, 1));
  gguf.AddStrings("tokenizer.ggml.merges", {});
  gguf.AddUint32("tokenizer.ggml.eos_token_id", 0);
  const int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  random.Add("token_embd.weight", {s.vocab, s.hidden}, types.head);
  for (int layer = 0; layer < 3; ++layer) {
    const std::string p = absl::StrCat("blk.", layer, ".");
    random.Add(p + "attn_norm.weight", {s.hidden}, 0);
    random.Add(p + "attn_q.weight", {q, s.hidden}, types.attention);
    random.Add(p + "attn_k.weight", {kv, s.hidden}, types.attention);
    random.Add(p + "attn_v.weight", {kv, s.hidden}, types.attention);
    random.Add(p + "attn_output.weight", {s.hidden, q}, types.wo);
    random.Add(p + "ffn_norm.weight", {s.hidden}, 0);
    random.Add(p + "ffn_gate.weight", {s.ffn, s.hidden}, types.ffn);
    random.Add(p + "ffn_up.weight", {s.ffn, s.hidden}, types.ffn);
    random.Add(p + "ffn_down.weight", {s.hidden, s.ffn}, types.ffn);
  }
  random.Add("output_norm.weight", {s.hidden}, 0);
  return gguf.Build();
}

// 7 query heads over one KV head, 7 FFN blocks of 32 (or 3 super-blocks), a prime vocabulary.
void ExpectLayoutsAgree(const Shape& shape, const Types& types) {
  testing::TempFolder folder;
  const std::string path = folder.Write("model.gguf", BuildModel(shape, types));
  const auto file = OpenModel(path, LoadFormat::kGguf);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto requests = EightPrompts(shape.vocab, 24, /*return_logits=*/true);
  const auto expected = Generate(**file, PlanOf(**file, 1, 1), requests);
  for (auto [tp, pp] : {std::pair{2, 1}, {3, 1}, {4, 1}, {5, 1}, {1, 3}, {3, 2}}) {
    SCOPED_TRACE(absl::StrCat(tp, "x", pp));
    const auto actual = Generate(**file, PlanOf(**file, tp, pp), requests, {.steps_in_flight = pp});
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(actual[i].tokens, expected[i].tokens) << "prompt " << i;
      EXPECT_LE(RelativeDifference(actual[i].logits, expected[i].logits), 1e-4) << "prompt " << i;
    }
  }
}

constexpr Shape kBlocks = {
    .hidden = 96, .heads = 7, .kv_heads = 1, .head_dim = 32, .ffn = 224, .vocab = 211};
constexpr Shape kSuperBlocks = {
    .hidden = 256, .heads = 6, .kv_heads = 2, .head_dim = 128, .ffn = 768, .vocab = 211};
constexpr Shape kHeadsAcrossBlocks = {
    .hidden = 96, .heads = 8, .kv_heads = 4, .head_dim = 20, .ffn = 160, .vocab = 101};

TEST(QuantizedLayoutsTest, Q4_1WithEmbeddingInQ8_0) {
  ExpectLayoutsAgree(
      kBlocks, {testing::kGgmlQ4_1, testing::kGgmlQ4_1, testing::kGgmlQ4_1, testing::kGgmlQ8_0});
}

TEST(QuantizedLayoutsTest, Q4_0AndQ5OfBothKinds) {
  ExpectLayoutsAgree(
      kBlocks, {testing::kGgmlQ4_0, testing::kGgmlQ5_0, testing::kGgmlQ5_1, testing::kGgmlQ5_0});
}

TEST(QuantizedLayoutsTest, SuperBlocksCutInside) {
  ExpectLayoutsAgree(kSuperBlocks, {testing::kGgmlQ4_K, testing::kGgmlQ5_K, testing::kGgmlQ4_K,
                                    testing::kGgmlQ6_K});
  ExpectLayoutsAgree(kSuperBlocks, {testing::kGgmlQ5_K, testing::kGgmlQ6_K, testing::kGgmlQ6_K,
                                    testing::kGgmlQ4_K});
}

TEST(QuantizedLayoutsTest, HeadsThatDoNotFallOnBlocks) {
  ExpectLayoutsAgree(kHeadsAcrossBlocks, {testing::kGgmlQ8_0, testing::kGgmlQ8_0,
                                          testing::kGgmlQ4_1, testing::kGgmlQ8_0});
}

}  // namespace
}  // namespace tessera::worker
