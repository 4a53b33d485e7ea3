// Writes small GGUF files for tests, right or wrong on purpose. Header-only, no state.
//
//   GgufBuilder gguf = TinyLlamaGguf();            // a whole valid model
//   gguf.Find("blk.0.attn_q.weight")->shape = {8, 8};
//   WriteFile(path, gguf.Build());
#ifndef TESSERA_TESTS_WORKER_FILES_GGUF_BUILDER_H_
#define TESSERA_TESTS_WORKER_FILES_GGUF_BUILDER_H_

#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tessera::worker::testing {

// ggml's numbers.
enum GgmlType : uint32_t {
  kGgmlF32 = 0,
  kGgmlF16 = 1,
  kGgmlQ4_0 = 2,
  kGgmlQ4_1 = 3,
  kGgmlQ5_0 = 6,
  kGgmlQ5_1 = 7,
  kGgmlQ8_0 = 8,
  kGgmlQ4_K = 12,
  kGgmlQ5_K = 13,
  kGgmlQ6_K = 14,
  kGgmlBF16 = 30,
};

class ByteWriter {
 public:
  template <typename T>
  ByteWriter& Put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  ByteWriter& PutString(const std::string& text) {
    Put<uint64_t>(text.size());
    bytes_ += text;
    return *this;
  }
  ByteWriter& PutRaw(const std::string& raw) {
    bytes_ += raw;
    return *this;
  }
  void PadTo(size_t alignment) {
    while (bytes_.size() % alignment != 0) bytes_ += '\0';
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

struct GgufTensor {
  std::string name;
  std::vector<int64_t> shape;  // row-major; written innermost first
  uint32_t type = kGgmlF32;
  std::string data;
  std::optional<uint64_t> offset;  // instead of where the data is put
};

struct GgufPair {
  std::string key;
  uint32_t type = 0;
  std::string value;  // as in the file
};

class GgufBuilder {
 public:
  uint32_t version = 3;
  uint64_t alignment = 32;
  std::optional<uint64_t> tensor_count, pair_count;  // lies
  std::vector<GgufPair> pairs;
  std::vector<GgufTensor> tensors;

  void AddUint32(const std::string& key, uint32_t value) {
    pairs.push_back({key, 4, ByteWriter().Put(value).bytes()});
  }
  void AddFloat(const std::string& key, float value) {
    pairs.push_back({key, 6, ByteWriter().Put(value).bytes()});
  }
  void AddBool(const std::string& key, bool value) {
    pairs.push_back({key, 7, ByteWriter().Put<uint8_t>(value).bytes()});
  }
  void AddString(const std::string& key, const std::string& value) {
    pairs.push_back({key, 8, ByteWriter().PutString(value).bytes()});
  }
  void AddStrings(const std::string& key, const std::vector<std::string>& values) {
    ByteWriter writer;
    writer.Put<uint32_t>(8).Put<uint64_t>(values.size());
    for (const std::string& value : values) writer.PutString(value);
    pairs.push_back({key, 9, writer.bytes()});
  }
  template <typename T>
  void AddArray(const std::string& key, uint32_t type, const std::vector<T>& values) {
    ByteWriter writer;
    writer.Put<uint32_t>(type).Put<uint64_t>(values.size());
    for (const T value : values) writer.Put<T>(value);
    pairs.push_back({key, 9, writer.bytes()});
  }
  GgufTensor* Find(const std::string& name) {
    for (GgufTensor& tensor : tensors) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }
  GgufPair* FindPair(const std::string& key) {
    for (GgufPair& pair : pairs) {
      if (pair.key == key) return &pair;
    }
    return nullptr;
  }
  void ErasePair(const std::string& key) {
    std::erase_if(pairs, [&](const GgufPair& pair) { return pair.key == key; });
  }

  // Everything before the padding; Build() puts padding and data after it.
  std::string BuildHeader() const {
    ByteWriter out;
    out.PutRaw("GGUF").Put<uint32_t>(version);
    out.Put<uint64_t>(tensor_count.value_or(tensors.size()));
    out.Put<uint64_t>(pair_count.value_or(pairs.size()));
    for (const GgufPair& pair : pairs) {
      out.PutString(pair.key).Put<uint32_t>(pair.type).PutRaw(pair.value);
    }
    uint64_t at = 0;
    for (const GgufTensor& tensor : tensors) {
      out.PutString(tensor.name).Put<uint32_t>(static_cast<uint32_t>(tensor.shape.size()));
      for (size_t i = tensor.shape.size(); i-- > 0;) out.Put<int64_t>(tensor.shape[i]);
      out.Put<uint32_t>(tensor.type).Put<uint64_t>(tensor.offset.value_or(at));
      at += (tensor.data.size() + alignment - 1) / alignment * alignment;
    }
    return out.bytes();
  }
  std::string Build() const {
    ByteWriter out;
    out.PutRaw(BuildHeader());
    out.PadTo(alignment);
    for (const GgufTensor& tensor : tensors) {
      out.PutRaw(tensor.data);
      out.PadTo(alignment);
    }
    return out.bytes();
  }
};

// Sizes of the models below: 3 query heads over 1 KV head of 4, so nothing divides.
inline constexpr int64_t kTinyHidden = 12;
inline constexpr int64_t kTinyKeys = 4;
inline constexpr int64_t kTinyFfn = 10;
inline constexpr int64_t kTinyVocab = 7;
inline constexpr int kTinyLayers = 2;

// Little-endian float32 of `count` values: seed, seed + 1, ...
inline std::string CountingFloats(int64_t count, float seed) {
  ByteWriter out;
  for (int64_t i = 0; i < count; ++i) out.Put<float>(seed + static_cast<float>(i));
  return out.bytes();
}

// The matrices and vectors of one layer, under the names GGUF gives them.
inline void AddTinyLayer(GgufBuilder& gguf, int layer) {
  const std::string prefix = "blk." + std::to_string(layer) + ".";
  const auto add = [&](const char* name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    gguf.tensors.push_back({prefix + name, std::move(shape), kGgmlF32,
                            CountingFloats(count, static_cast<float>(gguf.tensors.size())), {}});
  };
  add("attn_norm.weight", {kTinyHidden});
  add("attn_q.weight", {kTinyHidden, kTinyHidden});
  add("attn_k.weight", {kTinyKeys, kTinyHidden});
  add("attn_v.weight", {kTinyKeys, kTinyHidden});
  add("attn_output.weight", {kTinyHidden, kTinyHidden});
  add("ffn_norm.weight", {kTinyHidden});
  add("ffn_gate.weight", {kTinyFfn, kTinyHidden});
  add("ffn_up.weight", {kTinyFfn, kTinyHidden});
  add("ffn_down.weight", {kTinyHidden, kTinyFfn});
}

// A valid two-layer model of the llama family with a byte-level tokenizer and tied embeddings.
inline GgufBuilder TinyLlamaGguf() {
  GgufBuilder gguf;
  gguf.AddString("general.architecture", "llama");
  gguf.AddUint32("llama.block_count", kTinyLayers);
  gguf.AddUint32("llama.context_length", 64);
  gguf.AddUint32("llama.embedding_length", kTinyHidden);
  gguf.AddUint32("llama.feed_forward_length", kTinyFfn);
  gguf.AddUint32("llama.attention.head_count", 3);
  gguf.AddUint32("llama.attention.head_count_kv", 1);
  gguf.AddFloat("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  gguf.AddString("tokenizer.ggml.model", "gpt2");
  gguf.AddString("tokenizer.ggml.pre", "smollm");
  gguf.AddStrings("tokenizer.ggml.tokens", {"<|endoftext|>", "a", "b", "c", "ab", "abc", "x"});
  gguf.AddArray<int32_t>("tokenizer.ggml.token_type", 5, {3, 1, 1, 1, 1, 1, 4});
  gguf.AddStrings("tokenizer.ggml.merges", {"a b", "ab c"});
  gguf.AddUint32("tokenizer.ggml.eos_token_id", 0);
  gguf.tensors.push_back({"token_embd.weight", {kTinyVocab, kTinyHidden}, kGgmlF32,
                          CountingFloats(kTinyVocab * kTinyHidden, 0), {}});
  for (int layer = 0; layer < kTinyLayers; ++layer) AddTinyLayer(gguf, layer);
  gguf.tensors.push_back(
      {"output_norm.weight", {kTinyHidden}, kGgmlF32, CountingFloats(kTinyHidden, 0.5f), {}});
  return gguf;
}

}  // namespace tessera::worker::testing

#endif  // TESSERA_TESTS_WORKER_FILES_GGUF_BUILDER_H_
