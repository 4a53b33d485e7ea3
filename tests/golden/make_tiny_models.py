#!/usr/bin/env python3
"""Makes tests/golden/tiny_models/: tiny random checkpoints and the logits transformers gives for them.

Run by hand when the set changes (needs torch, transformers, safetensors, numpy); the tests only read
what it wrote. README.md beside this file describes the format.

    python3 tests/golden/make_tiny_models.py            # all of them anew
    python3 tests/golden/make_tiny_models.py olmo2 ...  # these and no others
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from transformers import (AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM, LlamaConfig,
                          LlamaForCausalLM, MistralConfig, MistralForCausalLM, Olmo2Config,
                          Olmo2ForCausalLM, Phi3Config, Phi3ForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM, SmolLM3Config,
                          SmolLM3ForCausalLM)

ROOT = pathlib.Path(__file__).parent / "tiny_models"
VOCAB = 131
PROMPT_LENGTHS = (1, 7, 24, 40)

COMMON = dict(vocab_size=VOCAB, initializer_range=0.2, bos_token_id=1, eos_token_id=2,
              attn_implementation="eager", dtype="float32")

# Nine query heads over three KV heads of 8: two ranks share the one in the middle.
NINE_HEADS = dict(hidden_size=72, num_attention_heads=9, num_key_value_heads=3, intermediate_size=60,
                  num_hidden_layers=4, max_position_embeddings=256,
                  rope_parameters=dict(rope_type="default", rope_theta=10000.0))

# name -> (class, config, shard size or None). Head counts, FFN sizes and the vocabulary do not
# divide by 2 or 4 on purpose.
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(
        hidden_size=72, num_attention_heads=9, num_key_value_heads=3, head_dim=8,
        intermediate_size=100, num_hidden_layers=3, max_position_embeddings=512,
        rms_norm_eps=1e-5, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="llama3", rope_theta=10000.0, factor=8.0,
                             original_max_position_embeddings=64, low_freq_factor=1.0,
                             high_freq_factor=4.0), **COMMON), None),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(
        hidden_size=64, num_attention_heads=4, num_key_value_heads=2, intermediate_size=90,
        num_hidden_layers=3, max_position_embeddings=256, rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0), **COMMON), "250KB"),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(
        hidden_size=48, num_attention_heads=6, num_key_value_heads=2, head_dim=16,
        intermediate_size=75, num_hidden_layers=4, max_position_embeddings=256,
        rms_norm_eps=1e-6, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0), **COMMON), None),
    "mistral": (MistralForCausalLM, MistralConfig(
        hidden_size=64, num_attention_heads=8, num_key_value_heads=2, head_dim=8,
        intermediate_size=110, num_hidden_layers=3, max_position_embeddings=256,
        rms_norm_eps=1e-5, sliding_window=12, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0), **COMMON), None),
    "smollm3": (SmolLM3ForCausalLM, SmolLM3Config(
        rms_norm_eps=1e-6, tie_word_embeddings=True, pad_token_id=0, **NINE_HEADS, **COMMON), None),
    "granite": (GraniteForCausalLM, GraniteConfig(
        rms_norm_eps=1e-5, tie_word_embeddings=True, embedding_multiplier=5.0,
        attention_multiplier=0.3, residual_multiplier=0.22, logits_scaling=6.0, **NINE_HEADS,
        **COMMON), None),
    "olmo2": (Olmo2ForCausalLM, Olmo2Config(
        rms_norm_eps=1e-6, tie_word_embeddings=False, pad_token_id=0, **NINE_HEADS, **COMMON), None),
    "phi3": (Phi3ForCausalLM, Phi3Config(
        rms_norm_eps=1e-5, tie_word_embeddings=False, pad_token_id=0,
        original_max_position_embeddings=256, **NINE_HEADS, **COMMON), None),
}

# name -> (model whose weights it shares, changes to its config.json)
VARIANTS = {
    "llama_linear": ("llama", {"rope_scaling": {"type": "linear", "factor": 4.0}}),
    "mistral_yarn": ("mistral", {
        "sliding_window": None,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                            "original_max_position_embeddings": 256, "beta_fast": 32.0,
                            "beta_slow": 1.0},
    }),
    "qwen3_windows": ("qwen3", {
        "use_sliding_window": True,
        "sliding_window": 10,
        "max_window_layers": 1,
        "layer_types": ["full_attention", "sliding_attention", "full_attention",
                        "sliding_attention"],
    }),
    "smollm3_pattern": ("smollm3", {"no_rope_layers": [0, 1, 1, 0]}),
    "phi3_partial": ("phi3", {
        "sliding_window": 12,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                            "partial_rotary_factor": 0.5},
    }),
}


def randomize_vectors(model):
  """transformers starts biases at 0 and norms at 1, which would hide a loader that ignores them."""
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if name.endswith("bias"):
        parameter.normal_(0.0, 0.5)
      elif "norm" in name:
        parameter.normal_(1.0, 0.2)


def rewrite_in_old_style(config_path):
  """The keys transformers 4 wrote: rope_theta and rope_scaling apart, torch_dtype."""
  config = json.loads(config_path.read_text())
  rope = config.pop("rope_parameters")
  config["rope_theta"] = rope.pop("rope_theta")
  config["rope_scaling"] = rope
  config["torch_dtype"] = config.pop("dtype")
  config_path.write_text(json.dumps(config, indent=2) + "\n")


def save_models(names):
  for name, (cls, config, shard_size) in MODELS.items():
    if name not in names:
      continue
    shutil.rmtree(ROOT / name, ignore_errors=True)
    torch.manual_seed(sum(map(ord, name)))
    model = cls(config).to(torch.float32)
    randomize_vectors(model)
    folder = ROOT / name
    model.save_pretrained(folder, **({"max_shard_size": shard_size} if shard_size else {}))
    (folder / "generation_config.json").unlink(missing_ok=True)
  for weights in ROOT.glob("*/*.safetensors"):
    weights.chmod(0o644)
  if "llama" in names:
    rewrite_in_old_style(ROOT / "llama" / "config.json")
  for name, (base, changes) in VARIANTS.items():
    if name not in names:
      continue
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = json.loads((ROOT / base / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "model.safetensors").symlink_to(f"../{base}/model.safetensors")


def write_goldens(name):
  folder = ROOT / name
  model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager",
                                               dtype=torch.float32).eval()
  assert all(p.dtype == torch.float32 for p in model.parameters())
  rng = np.random.default_rng(7)
  prompts = [rng.integers(0, VOCAB, size=n).tolist() for n in PROMPT_LENGTHS]
  with torch.no_grad():
    logits = [model(torch.tensor([ids])).logits[0].numpy().astype("<f4") for ids in prompts]
  flat = np.concatenate(logits)  # (sum of lengths, VOCAB)
  flat.tofile(folder / "logits.bin")
  (folder / "prompts.json").write_text(json.dumps({"vocab_size": VOCAB, "prompts": prompts}) + "\n")
  print(f"{name}: logits {flat.shape}, std {flat.std():.3f}, "
        f"distinct argmax {len(set(flat.argmax(1)))}, scaling {model.config.rope_parameters}")


if __name__ == "__main__":
  wanted = sys.argv[1:] or list(MODELS) + list(VARIANTS)
  save_models(wanted)
  for model_name in wanted:
    write_goldens(model_name)
