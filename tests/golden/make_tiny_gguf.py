#!/usr/bin/env python3
"""Makes tests/golden/tiny_gguf/<name>.gguf: the checkpoints of tiny_models/ as llama.cpp's
convert_hf_to_gguf.py would write them, in float32, so that the logits beside the originals hold for
them too.

Run by hand when the set changes; needs numpy, safetensors and gguf. Where llama-cpp-python is
installed, llama.cpp itself then judges every file against those logits.

    python3 tests/golden/make_tiny_gguf.py            # all of them anew
    python3 tests/golden/make_tiny_gguf.py olmo2 ...  # these and no others

What the converter does besides renaming:
  - files of llama.cpp's "llama" architecture (Mistral is one of them) pair element 2i with 2i+1 in
    the rotary embedding, so the rows of each query and key head are interleaved, and those of
    SmolLM3 and Granite too; qwen2, qwen3, olmo2 and phi3 keep the order;
  - llama3 scaling becomes a tensor of divisors, rope_freqs.weight; linear and yarn become keys;
  - a tied output head is not written;
  - Phi-3's fused matrices stay fused: attn_qkv and ffn_up.
Its "llama" architecture has no sliding window: only the variant of Mistral without one has a twin.
SmolLM3's layers without rotary embedding are every fourth there, whatever the config says.
"""

import json
import math
import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import load_file

HERE = pathlib.Path(__file__).parent
SOURCES = HERE / "tiny_models"
OUT = HERE / "tiny_gguf"
NAMES = ("llama", "llama_linear", "mistral_yarn", "qwen2", "qwen3", "smollm3", "granite", "olmo2",
         "phi3")
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3",
                 "smollm3": "smollm3", "granite": "granite", "olmo2": "olmo2", "phi3": "phi3"}
INTERLEAVED = ("llama", "smollm3", "granite")

TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
IN_LAYER = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
            "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
            "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
            "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
            "mlp.down_proj": "ffn_down", "self_attn.qkv_proj": "attn_qkv",
            "mlp.gate_up_proj": "ffn_up"}
IN_OLMO2_LAYER = {"post_attention_layernorm": "post_attention_norm",
                  "post_feedforward_layernorm": "post_ffw_norm"}


def gguf_name(name, architecture):
  stem, kind = name.rsplit(".", 1)  # kind: weight or bias
  if stem in TOP:
    return f"{TOP[stem]}.{kind}"
  layer, role = stem.removeprefix("model.layers.").split(".", 1)
  names = {**IN_LAYER, **IN_OLMO2_LAYER} if architecture == "olmo2" else IN_LAYER
  return f"blk.{layer}.{names[role]}.{kind}"


def interleaved(tensor, heads):
  """Rows (or entries) of each head: 0, d/2, 1, d/2+1, ..."""
  half = tensor.shape[0] // heads // 2
  return tensor.reshape(heads, 2, half, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def rope_of(config):
  """(theta, scaling) out of either generation of config.json."""
  scaling = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
  theta = scaling.pop("rope_theta", None) or config["rope_theta"]
  scaling["type"] = scaling.pop("rope_type", None) or scaling.get("type", "default")
  return theta, scaling


def llama3_divisors(theta, head_dim, scaling):
  frequencies = 1.0 / (theta ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim))
  factor, low, high = (scaling[k] for k in ("factor", "low_freq_factor", "high_freq_factor"))
  context = scaling["original_max_position_embeddings"]
  divisors = []
  for frequency in frequencies:
    wavelength = 2 * math.pi / frequency
    if wavelength < context / high:
      divisors.append(1.0)
    elif wavelength > context / low:
      divisors.append(factor)
    else:
      smooth = (context / wavelength - low) / (high - low)
      divisors.append(1.0 / ((1 - smooth) / factor + smooth))
  return np.array(divisors, dtype=np.float32)


def add_hyperparameters(writer, config, theta, scaling):
  head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
  writer.add_file_type(gguf.LlamaFileType.ALL_F32)
  writer.add_block_count(config["num_hidden_layers"])
  writer.add_context_length(config["max_position_embeddings"])
  writer.add_embedding_length(config["hidden_size"])
  writer.add_feed_forward_length(config["intermediate_size"])
  writer.add_head_count(config["num_attention_heads"])
  writer.add_head_count_kv(config["num_key_value_heads"])
  writer.add_rope_freq_base(theta)
  writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
  if config.get("head_dim"):
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
  if ARCHITECTURES[config["model_type"]] in (*INTERLEAVED, "phi3"):
    writer.add_rope_dimension_count(head_dim)
  if config["model_type"] == "granite":
    writer.add_embedding_scale(config["embedding_multiplier"])
    writer.add_residual_scale(config["residual_multiplier"])
    writer.add_attention_scale(config["attention_multiplier"])
    writer.add_logit_scale(config["logits_scaling"])
  if config["model_type"] == "phi3":
    writer.add_sliding_window(config["sliding_window"] or 0)
  if scaling["type"] in ("linear", "yarn"):
    writer.add_rope_scaling_type(gguf.RopeScalingType(scaling["type"]))
    writer.add_rope_scaling_factor(scaling["factor"])
  if scaling["type"] == "yarn":
    writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
  writer.add_vocab_size(config["vocab_size"])
  writer.add_tokenizer_model("none")
  return head_dim


def convert(name):
  source = SOURCES / name
  config = json.loads((source / "config.json").read_text())
  architecture = ARCHITECTURES[config["model_type"]]
  theta, scaling = rope_of(config)
  writer = gguf.GGUFWriter(OUT / f"{name}.gguf", architecture)
  head_dim = add_hyperparameters(writer, config, theta, scaling)
  if scaling["type"] == "llama3":
    writer.add_tensor("rope_freqs.weight", llama3_divisors(theta, head_dim, scaling))
  heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
  for shard in sorted(source.glob("*.safetensors")):
    for hf_name, tensor in load_file(shard).items():
      target = gguf_name(hf_name, architecture)
      role = target.split(".")[-2]
      if target == "output.weight" and config["tie_word_embeddings"]:
        continue
      if architecture in INTERLEAVED and role in heads:
        tensor = interleaved(tensor, heads[role])
      writer.add_tensor(target, np.ascontiguousarray(tensor, dtype=np.float32))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  print(f"{name}.gguf: {(OUT / f'{name}.gguf').stat().st_size} bytes")


def judge(name, llama_cpp):
  """The largest difference of llama.cpp's logits from the golden ones, over the largest logit."""
  golden = json.loads((SOURCES / name / "prompts.json").read_text())
  expected = np.fromfile(SOURCES / name / "logits.bin", dtype="<f4").reshape(-1, golden["vocab_size"])
  float32 = llama_cpp.GGML_TYPE_F32
  model = llama_cpp.Llama(model_path=str(OUT / f"{name}.gguf"), n_ctx=256, logits_all=True,
                          type_k=float32, type_v=float32, flash_attn=False, verbose=False)
  rows = []
  for ids in golden["prompts"]:
    model.reset()
    model.eval(ids)
    rows.append(model.scores[:len(ids)].copy())
  difference = np.abs(np.concatenate(rows) - expected).max() / np.abs(expected).max()
  print(f"{name}: llama.cpp differs from transformers by {difference:.1e} of the largest logit")
  return difference


def main():
  OUT.mkdir(exist_ok=True)
  names = sys.argv[1:] or NAMES
  for name in names:
    convert(name)
  try:
    import llama_cpp
  except ImportError:
    print("llama-cpp-python is not installed: nobody judged the files", file=sys.stderr)
    return
  worst = max([judge(name, llama_cpp) for name in names])
  if not worst < 1e-4:
    sys.exit("llama.cpp and transformers disagree: the files are wrong")


if __name__ == "__main__":
  main()
