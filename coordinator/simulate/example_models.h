// ModelDescriptions for tests and simulated groups: Llama-like models with full tensor tables, no weights.
//
//   v1::ModelDescription model = MakeModel({.num_layers = 3, .num_heads = 9, .num_kv_heads = 3});
//   v1::ModelDescription smol = SmolLm2();
//
// The table is written down here once more, apart from coordinator/plan, so that tests of the
// planner compare two accounts of it.
#ifndef TESSERA_COORDINATOR_SIMULATE_EXAMPLE_MODELS_H_
#define TESSERA_COORDINATOR_SIMULATE_EXAMPLE_MODELS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/v1/model.pb.h"

namespace tessera::testing {

struct ExampleModel {
  std::string name = "example";
  int num_layers = 4;
  int hidden_size = 64;
  int num_heads = 8;
  int num_kv_heads = 4;
  int head_dim = 32;
  int ffn_size = 256;
  int vocab_size = 1000;
  int max_positions = 2048;
  bool tied_embeddings = true;
  bool qkv_bias = false;
  bool qk_norm = false;
  bool quantized = true;  // matrices in Q4_1, FFN in granules of 32; else F32, granules of 1
};

// Appends a tensor; `shape` of one dimension is always F32.
inline void AddTensor(const std::string& name, const std::vector<int64_t>& shape,
                      v1::ShardAxis axis, int layer, bool quantized, v1::ModelDescription* model) {
  v1::TensorDescription* tensor = model->add_tensors();
  tensor->set_name(name);
  tensor->set_axis(axis);
  tensor->set_layer(layer);
  int64_t elements = 1;
  for (const int64_t dimension : shape) {
    tensor->add_shape(dimension);
    elements *= dimension;
  }
  // 32 elements of Q4_1 are 20 bytes.
  const bool as_q4_1 = quantized && shape.size() == 2 && shape[1] % 32 == 0;
  tensor->set_type(as_q4_1 ? v1::DATA_TYPE_Q4_1 : v1::DATA_TYPE_F32);
  tensor->set_resident_bytes(as_q4_1 ? elements / 32 * 20 : elements * 4);
}

inline void AddLayer(const ExampleModel& example, int layer, v1::ModelDescription* model) {
  const int64_t hidden = example.hidden_size;
  const int64_t q_rows = int64_t{example.num_heads} * example.head_dim;
  const int64_t kv_rows = int64_t{example.num_kv_heads} * example.head_dim;
  const int64_t ffn = example.ffn_size;
  const auto add = [&](const char* role, const std::vector<int64_t>& shape, v1::ShardAxis axis) {
    AddTensor("layers." + std::to_string(layer) + "." + role, shape, axis, layer, example.quantized,
              model);
  };
  add("attn_norm", {hidden}, v1::SHARD_AXIS_REPLICATED);
  add("wq", {q_rows, hidden}, v1::SHARD_AXIS_Q_HEAD_ROWS);
  add("wk", {kv_rows, hidden}, v1::SHARD_AXIS_KV_HEAD_ROWS);
  add("wv", {kv_rows, hidden}, v1::SHARD_AXIS_KV_HEAD_ROWS);
  if (example.qkv_bias) {
    add("bq", {q_rows}, v1::SHARD_AXIS_Q_HEAD_ROWS);
    add("bk", {kv_rows}, v1::SHARD_AXIS_KV_HEAD_ROWS);
    add("bv", {kv_rows}, v1::SHARD_AXIS_KV_HEAD_ROWS);
  }
  if (example.qk_norm) {
    add("q_norm", {example.head_dim}, v1::SHARD_AXIS_REPLICATED);
    add("k_norm", {example.head_dim}, v1::SHARD_AXIS_REPLICATED);
  }
  add("wo", {hidden, q_rows}, v1::SHARD_AXIS_Q_HEAD_COLS);
  add("ffn_norm", {hidden}, v1::SHARD_AXIS_REPLICATED);
  add("w_gate", {ffn, hidden}, v1::SHARD_AXIS_FFN_ROWS);
  add("w_up", {ffn, hidden}, v1::SHARD_AXIS_FFN_ROWS);
  add("w_down", {hidden, ffn}, v1::SHARD_AXIS_FFN_COLS);
}

inline v1::ModelDescription MakeModel(const ExampleModel& example) {
  v1::ModelDescription model;
  model.set_name(example.name);
  model.set_weight_format("dummy");
  model.set_quantization(example.quantized ? "Q4_1" : "F32");
  v1::Architecture* arch = model.mutable_architecture();
  arch->set_family("llama");
  arch->set_num_layers(example.num_layers);
  arch->set_hidden_size(example.hidden_size);
  arch->set_vocab_size(example.vocab_size);
  arch->set_max_positions(example.max_positions);
  arch->set_rms_norm_eps(1e-5f);
  arch->set_tied_embeddings(example.tied_embeddings);
  v1::LayerConfig* kind = arch->add_layer_kinds();
  kind->set_norms(v1::LayerConfig::NORM_PLACEMENT_PRE);
  v1::AttentionConfig* attention = kind->mutable_attention();
  attention->set_num_heads(example.num_heads);
  attention->set_num_kv_heads(example.num_kv_heads);
  attention->set_head_dim(example.head_dim);
  attention->mutable_rope()->set_pairing(v1::ROPE_PAIRING_INTERLEAVED);
  attention->mutable_rope()->set_theta(10'000.0f);
  attention->set_qkv_bias(example.qkv_bias);
  if (example.qk_norm) attention->set_qk_norm(v1::AttentionConfig::QK_NORM_PER_HEAD);
  v1::FeedForwardConfig* feed_forward = kind->mutable_feed_forward();
  feed_forward->set_kind(v1::FeedForwardConfig::KIND_GATED);
  feed_forward->set_activation(v1::FeedForwardConfig::ACTIVATION_SILU);
  feed_forward->set_width(example.ffn_size);
  feed_forward->set_granularity(example.quantized && example.ffn_size % 32 == 0 ? 32 : 1);
  const std::vector<int64_t> vocab_matrix = {example.vocab_size, example.hidden_size};
  AddTensor("token_embedding", vocab_matrix, v1::SHARD_AXIS_VOCAB_ROWS, -1, example.quantized, &model);
  AddTensor("output_norm", {example.hidden_size}, v1::SHARD_AXIS_REPLICATED, -1, example.quantized, &model);
  if (!example.tied_embeddings) {
    AddTensor("output", vocab_matrix, v1::SHARD_AXIS_VOCAB_ROWS, -1, example.quantized, &model);
  }
  for (int layer = 0; layer < example.num_layers; ++layer) AddLayer(example, layer, &model);
  return model;
}

// SmolLM2-135M's numbers: 9 query heads over 3 KV heads.
inline v1::ModelDescription SmolLm2() {
  return MakeModel({.name = "SmolLM2-135M",
                    .num_layers = 30,
                    .hidden_size = 576,
                    .num_heads = 9,
                    .num_kv_heads = 3,
                    .head_dim = 64,
                    .ffn_size = 1536,
                    .vocab_size = 49152,
                    .max_positions = 8192});
}

}  // namespace tessera::testing

#endif  // TESSERA_COORDINATOR_SIMULATE_EXAMPLE_MODELS_H_
