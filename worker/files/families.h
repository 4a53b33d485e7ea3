// The model families as rows of data, whichever format a file has: what a family calls itself,
// which parts its layers have, which keys of a file it heeds, and where its tensors' names differ
// from those of the Llama family. A further family whose parts exist is a further row.
//
// The readers of both formats fill ModelNumbers, and MakeArchitecture makes the message of them and
// of the row; nothing after it knows of families. Threads: any; the rows are constants.
//
//   TESSERA_ASSIGN_OR_RETURN(const Family* family, FindFamilyOf(Format::kGguf, path, name));
//   v1::Architecture arch = MakeArchitecture(*family, numbers);
#ifndef TESSERA_WORKER_FILES_FAMILIES_H_
#define TESSERA_WORKER_FILES_FAMILIES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tessera/v1/model.pb.h"

namespace tessera::worker {

enum class Format { kGguf, kHuggingFace };

// Which layers attend to a sliding window, in a config.json.
enum class WindowRule {
  kNone,    // none, whatever keys there are
  kAll,     // all, of sliding_window positions
  kQwen,    // with use_sliding_window: those of layer_types, or from max_window_layers on
  kSmolLm3, // with use_sliding_window: those of layer_types, or those without rotary embedding
};

// Which layers have rotary embedding.
enum class RotaryRule {
  kAll,
  kSmolLm3,  // those of no_rope_layers; else, and in GGUF, all but every fourth
};

// Where a format keeps a tensor that the Llama family keeps elsewhere, in a layer. Tensors that
// share a name lie one after the other in the rows of one, in the order of the architecture's
// tensors.
struct TensorName {
  const char* role;          // "wq"
  const char* gguf;          // behind "blk.<i>."; null: as the Llama family
  const char* hugging_face;  // behind "model.layers.<i>."
};

struct Family {
  const char* name;                    // Architecture.family
  const char* gguf = nullptr;          // general.architecture; null: GGUF has no such
  const char* hugging_face = nullptr;  // config.json's architectures

  // Parts of its layers.
  v1::RopePairing gguf_pairing = v1::ROPE_PAIRING_HALF_SPLIT;
  v1::LayerConfig::NormPlacement norms = v1::LayerConfig::NORM_PLACEMENT_PRE;
  v1::AttentionConfig::QkNorm qk_norm = v1::AttentionConfig::QK_NORM_NONE;
  bool qkv_bias = false;
  bool multipliers = false;     // of embedding, attention scores, residuals and logits
  bool partial_rotary = false;  // a part of each head may turn
  RotaryRule rotary = RotaryRule::kAll;
  WindowRule windows = WindowRule::kNone;
  absl::Span<const TensorName> names = {};

  // What transformers takes for keys that a config.json does not have.
  int default_kv_heads = 0;  // 0: as many as query heads
  int default_head_dim = 0;  // 0: hidden size / heads
  int default_max_positions = 2048;
  int default_window = 0;  // 0: none
  double default_rope_theta = 10000;
  double default_rms_norm_eps = 1e-6;
  bool default_tied = false;
  // attention_bias puts a bias on the output projection too; the others ignore the key.
  bool heeds_attention_bias = false;
  // "su" and "yarn" are older names of rope type longrope.
  bool only_longrope = false;
};

// The row of that name; UNIMPLEMENTED naming those that the format has.
absl::StatusOr<const Family*> FindFamilyOf(Format format, absl::string_view where,
                                           absl::string_view name);
// "LlamaForCausalLM, MistralForCausalLM, ..."
std::string FamiliesOf(Format format);
// The row whose Architecture.family that is; null where there is none.
const Family* FindFamilyNamed(absl::string_view name);

// In what layers may differ from each other.
struct LayerVariation {
  int sliding_window = 0;
  bool rotary = true;
};

// What a file says, the same in either format.
struct ModelNumbers {
  int64_t layers = 0;
  int64_t hidden = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t ffn = 0;
  int64_t vocab = 0;
  int64_t max_positions = 0;
  double rms_norm_eps = 0;
  bool tied_embeddings = false;
  bool qkv_bias = false;
  v1::RopeConfig rope;
  std::vector<LayerVariation> variations;  // (layers)
  // 0: as if there were none. Logits are multiplied.
  double embedding_multiplier = 0;
  double attention_scale = 0;
  double residual_multiplier = 0;
  double logit_scale = 0;
  int ffn_block = 1;  // 32 where a quantized matrix is cut along its FFN columns
};

// Which layers have rotary embedding where the file does not say.
std::vector<LayerVariation> DefaultVariations(const Family& family, int64_t layers);

// One layer kind for each different variation, in the order in which they first stand.
v1::Architecture MakeArchitecture(const Family& family, const ModelNumbers& numbers);

}  // namespace tessera::worker

#endif  // TESSERA_WORKER_FILES_FAMILIES_H_
