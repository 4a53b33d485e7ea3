// Every stored type against values that the `gguf` Python package computed, through a whole file and
// any cut at a multiple of 32.
#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "kernels/reference.h"
#include "tests/worker/files/gguf_builder.h"
#include "tests/worker/files/test_files.h"
#include "worker/files/model_file.h"
#include "worker/files/repack.h"
#include "worker/files/stored_tensor.h"

namespace tessera::worker {
namespace {

using namespace testing;  // NOLINT: the builders of this folder

struct Golden {
  std::string name;
  int64_t rows = 0, cols = 0;
  std::string raw;
  std::vector<float> values;
  v1::DataType type() const {
    v1::DataType parsed = v1::DATA_TYPE_UNSPECIFIED;
    EXPECT_TRUE(v1::DataType_Parse("DATA_TYPE_" + name, &parsed));
    return parsed;
  }
};

std::vector<Golden> ReadGoldens() {
  const std::string bytes = ReadWhole(TESSERA_SOURCE_DIR "/tests/golden/quant_golden.bin");
  std::vector<Golden> goldens;
  size_t at = 0;
  const auto take = [&](void* out, size_t count) {
    ASSERT_LE(at + count, bytes.size());
    std::memcpy(out, bytes.data() + at, count);
    at += count;
  };
  while (at < bytes.size()) {
    char name[9] = {};
    uint32_t rows = 0, cols = 0, count = 0;
    take(name, 8);
    take(&rows, 4);
    take(&cols, 4);
    take(&count, 4);
    Golden golden{name, rows, cols, std::string(count, '\0'),
                  std::vector<float>(size_t{rows} * cols)};
    take(golden.raw.data(), count);
    take(golden.values.data(), golden.values.size() * sizeof(float));
    goldens.push_back(std::move(golden));
  }
  return goldens;
}

const std::map<std::string, uint32_t> kGgmlNumbers = {
    {"F32", kGgmlF32},   {"F16", kGgmlF16},   {"BF16", kGgmlBF16}, {"Q8_0", kGgmlQ8_0},
    {"Q4_0", kGgmlQ4_0}, {"Q4_1", kGgmlQ4_1}, {"Q5_0", kGgmlQ5_0}, {"Q5_1", kGgmlQ5_1},
    {"Q4_K", kGgmlQ4_K}, {"Q5_K", kGgmlQ5_K}, {"Q6_K", kGgmlQ6_K},
};

// A one-layer model whose every matrix is (rows, 512) of the golden's type, tiled from its rows.
// heads: query heads of 512 / heads each. The FFN and hidden sizes are 512.
GgufBuilder QuantizedModel(const Golden& golden, uint32_t heads) {
  GgufBuilder gguf;
  gguf.AddString("general.architecture", "llama");
  gguf.AddUint32("llama.block_count", 1);
  gguf.AddUint32("llama.context_length", 64);
  gguf.AddUint32("llama.embedding_length", 512);
  gguf.AddUint32("llama.feed_forward_length", 512);
  gguf.AddUint32("llama.attention.head_count", heads);
  gguf.AddFloat("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  gguf.AddUint32("llama.vocab_size", 3);
  const size_t row_bytes = golden.raw.size() / static_cast<size_t>(golden.rows);
  const auto matrix = [&](const std::string& name, int64_t rows) {
    std::string data;
    for (int64_t row = 0; row < rows; ++row) {
      data += golden.raw.substr(static_cast<size_t>(row % golden.rows) * row_bytes, row_bytes);
    }
    gguf.tensors.push_back({name, {rows, 512}, kGgmlNumbers.at(golden.name), data, {}});
  };
  const auto vector = [&](const std::string& name) {
    gguf.tensors.push_back({name, {512}, kGgmlF32, CountingFloats(512, 1), {}});
  };
  matrix("token_embd.weight", 3);
  for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up",
                           "ffn_down"}) {
    matrix(std::string("blk.0.") + name + ".weight", 512);
  }
  vector("blk.0.attn_norm.weight");
  vector("blk.0.ffn_norm.weight");
  vector("output_norm.weight");
  return gguf;
}

// The slice as float32 through ReadSlice and the kernels' judge.
std::vector<float> ReadAsFloats(const ModelFile& model, const std::string& name,
                                kernels::DType resident, int64_t row, int64_t begin,
                                int64_t end) {
  std::vector<uint8_t> bytes(kernels::RowBytes(resident, end - begin));
  EXPECT_TRUE(model.ReadSlice(name, row, row + 1, begin, end, bytes.data()).ok());
  std::vector<float> values(static_cast<size_t>(end - begin));
  kernels::reference::DequantizeRow(resident, bytes.data(), 0, end - begin, values.data());
  return values;
}

TEST(Repack, GoldenFileHasEveryType) { EXPECT_EQ(ReadGoldens().size(), kGgmlNumbers.size()); }

TEST(Repack, EveryCutOfEveryTypeEqualsTheGolden) {
  for (const Golden& golden : ReadGoldens()) {
    SCOPED_TRACE(golden.name);
    const TempFolder folder;
    const auto model = OpenModel(
        folder.Write("quant.gguf", QuantizedModel(golden, 8).Build()), LoadFormat::kAuto);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->description().quantization(), golden.name);
    const bool quantized = IsQuantized(golden.type());
    const v1::Architecture& arch = (*model)->description().architecture();
    EXPECT_EQ(arch.layer_kinds(0).feed_forward().granularity() % (quantized ? 32 : 1), 0);

    const v1::TensorDescription& embedding = (*model)->description().tensors(0);
    const kernels::DType resident =
        ResidentType(embedding, (*model)->description().architecture());
    EXPECT_EQ(resident, RepackedType(golden.type()));
    EXPECT_EQ(embedding.resident_bytes(),
              static_cast<int64_t>(3 * kernels::RowBytes(resident, 512)));
    for (int64_t row = 0; row < golden.rows; ++row) {
      for (int64_t begin = 0; begin < golden.cols; begin += 32) {
        for (int64_t end = begin + 32; end <= golden.cols; end += 32) {
          const auto values =
              ReadAsFloats(**model, "token_embedding", resident, row, begin, end);
          const float* expected = golden.values.data() + row * golden.cols + begin;
          ASSERT_EQ(std::memcmp(values.data(), expected, values.size() * sizeof(float)), 0)
              << "row " << row << " columns " << begin << " .. " << end;
        }
      }
    }
  }
}

// Keys are rows 512 .. 1023 of one tensor with queries and values.
TEST(Repack, RowsOfASharedTensorEqualTheGolden) {
  for (const Golden& golden : ReadGoldens()) {
    SCOPED_TRACE(golden.name);
    GgufBuilder gguf = QuantizedModel(golden, 8);
    for (GgufPair& pair : gguf.pairs) {
      if (pair.key.starts_with("llama.")) pair.key.replace(0, 5, "phi3");
    }
    gguf.FindPair("general.architecture")->value = ByteWriter().PutString("phi3").bytes();
    const auto fuse = [&](const std::string& name, const std::vector<std::string>& parts) {
      GgufTensor fused{name, {0, 512}, gguf.Find(parts[0])->type, "", {}};
      for (const std::string& part : parts) {
        fused.shape[0] += gguf.Find(part)->shape[0];
        fused.data += gguf.Find(part)->data;
        std::erase_if(gguf.tensors, [&](const GgufTensor& t) { return t.name == part; });
      }
      gguf.tensors.push_back(fused);
    };
    fuse("blk.0.attn_qkv.weight",
         {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"});
    fuse("blk.0.ffn_up.weight", {"blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"});
    const TempFolder folder;
    const auto model = OpenModel(folder.Write("fused.gguf", gguf.Build()), LoadFormat::kAuto);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->description().quantization(), golden.name);
    for (int64_t row : {0, 1, 510, 511}) {
      const auto values =
          ReadAsFloats(**model, "layers.0.wk", RepackedType(golden.type()), row, 64, 480);
      const float* expected = golden.values.data() + row % golden.rows * golden.cols + 64;
      EXPECT_EQ(std::memcmp(values.data(), expected, values.size() * sizeof(float)), 0) << row;
    }
  }
}

TEST(Repack, OwnDequantizationEqualsTheGoldenAtAnyColumn) {
  for (const Golden& golden : ReadGoldens()) {
    SCOPED_TRACE(golden.name);
    const size_t row_bytes = golden.raw.size() / static_cast<size_t>(golden.rows);
    const auto* row = reinterpret_cast<const uint8_t*>(golden.raw.data()) + row_bytes;
    for (int64_t begin = 0; begin < golden.cols; begin += 13) {
      for (const int64_t length : {1, 31, 32, 33, 256, 300}) {
        const int64_t end = std::min(golden.cols, begin + length);
        std::vector<float> values(static_cast<size_t>(end - begin));
        DequantizeRow(golden.type(), row, begin, end, values.data());
        ASSERT_EQ(std::memcmp(values.data(), golden.values.data() + golden.cols + begin,
                              values.size() * sizeof(float)),
                  0)
            << begin << " .. " << end;
      }
    }
  }
}

TEST(Repack, HeadsInsideBlocksMakeTheOutputProjectionFloat32) {
  for (const Golden& golden : ReadGoldens()) {
    if (!IsQuantized(golden.type())) continue;
    SCOPED_TRACE(golden.name);
    const TempFolder folder;
    const auto model = OpenModel(  // 32 heads of 16
        folder.Write("quant.gguf", QuantizedModel(golden, 32).Build()), LoadFormat::kAuto);
    ASSERT_TRUE(model.ok()) << model.status();
    for (const v1::TensorDescription& tensor : (*model)->description().tensors()) {
      const auto resident = ResidentType(tensor, (*model)->description().architecture());
      const bool is_float = tensor.name() == "layers.0.wo" || tensor.shape_size() == 1;
      EXPECT_EQ(resident == kernels::DType::kF32, is_float) << tensor.name();
      if (tensor.name() == "layers.0.wo") {
        EXPECT_EQ(tensor.resident_bytes(), 512 * 512 * 4);
      }
    }
    // Rows 4 .. 6, heads 3 .. 7 of 16: columns 48 .. 112, to an address of no alignment.
    std::vector<uint8_t> out(2 * 64 * sizeof(float) + 1);
    ASSERT_TRUE((*model)->ReadSlice("layers.0.wo", 4, 6, 48, 112, out.data() + 1).ok());
    for (int64_t row = 0; row < 2; ++row) {
      const float* expected = golden.values.data() + (row + 4) % 3 * golden.cols + 48;
      EXPECT_EQ(std::memcmp(out.data() + 1 + row * 64 * 4, expected, 64 * sizeof(float)), 0);
    }
  }
}

TEST(Repack, ColumnsInsideABlockAreRefused) {
  const TempFolder folder;
  const Golden golden = ReadGoldens().back();
  const auto model =
      OpenModel(folder.Write("quant.gguf", QuantizedModel(golden, 8).Build()), LoadFormat::kAuto);
  ASSERT_TRUE(model.ok()) << model.status();
  std::vector<uint8_t> out(4096);
  const absl::Status status = (*model)->ReadSlice("layers.0.wq", 0, 1, 16, 64, out.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(MessageOf(status), ::testing::HasSubstr("multiples of 32"));
}

}  // namespace
}  // namespace tessera::worker
