#!/usr/bin/env python3
"""Makes tests/golden/hf_tokenizers/<name>/: small tokenizers as Hugging Face folders have them.

The vocabularies and merges are those of tokenizers/*.textproto; here they become tokenizer.json
(written by the `tokenizers` library), tokenizer_config.json, a config.json that names only what a
tokenizer needs to be tried (no weights), and what else such folders hold. The ids that `tokenizers`
gives for tokenizers/strings.json are those of tokenizers/<ids>.ids; where they are not, for
SentencePiece-like ones, <name>.ids has every line that differs as "<line> <ids>[\t<plain ids>]".

Run by hand when the set changes; needs tokenizers, protobuf and grpcio-tools.

    python3 tests/golden/make_hf_tokenizers.py
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from google.protobuf import text_format
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from make_tokenizer_golden import BYTE_LEVEL, ids_text

HERE = pathlib.Path(__file__).parent.resolve()
GOLDEN = HERE / "tokenizers"
OUT = HERE / "hf_tokenizers"
SPACE = "\u2581"


def model_messages():
  """The generated module of model.proto."""
  folder = tempfile.mkdtemp()
  root = HERE.parent.parent / "proto"
  subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", f"--python_out={folder}",
                  "tessera/v1/model.proto"], check=True)
  sys.path.insert(0, folder)
  from tessera.v1 import model_pb2
  return model_pb2


def description(messages, name):
  text = (GOLDEN / f"{name}.textproto").read_text()
  return text_format.Parse(text, messages.TokenizerDescription())


def golden_texts():
  texts = []
  for item in json.loads((GOLDEN / "strings.json").read_text()):
    if isinstance(item, str):
      texts.append(item)
    elif "hex" in item:
      texts.append(bytes.fromhex(item["hex"]).decode("utf-8", errors="replace"))
    else:
      texts.append(item["repeat"][0] * item["repeat"][1])
  return texts


def tokens_of(description_, messages, kind):
  return [t.decode() for t, k in zip(description_.tokens, description_.types)
          if k == messages.TokenType.Value(kind)]


# --- the tokenizers ---------------------------------------------------------------------------

def byte_level(messages, name, added=True):
  spec, golden = BYTE_LEVEL[name], description(messages, name)
  vocab = {t.decode(): i for i, t in enumerate(golden.tokens)}
  merges = [tuple(m.decode().split(" ")) for m in golden.merges]
  tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=golden.ignore_merges))
  tokenizer.pre_tokenizer = spec["pre"]
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
  if golden.normalize_nfc:
    tokenizer.normalizer = normalizers.NFC()
  if added:
    control = tokens_of(golden, messages, "TOKEN_TYPE_CONTROL")
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
  user_defined = tokens_of(golden, messages, "TOKEN_TYPE_USER_DEFINED")
  tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in user_defined])
  return tokenizer


def llama3(messages, added=True):
  tokenizer = byte_level(messages, "llama-bpe", added)
  if added:
    bos = "<|endoftext|>"
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                      special_tokens=[(bos, tokenizer.token_to_id(bos))])])
  return tokenizer


def merges_from_scores(pieces, scores):
  """As transformers converts a SentencePiece model: every way to make a piece out of two, best
  score first. (It knows no types, so control pieces may have merges too.)"""
  ids = {piece: i for i, piece in enumerate(pieces)}
  merges = []
  for piece, score in zip(pieces, scores):
    ways = [(piece[:i], piece[i:], score) for i in range(1, len(piece))
            if piece[:i] in ids and piece[i:] in ids]
    merges += sorted(ways, key=lambda way: (ids[way[0]], ids[way[1]]))
  merges.sort(key=lambda way: (way[2], len(way[0]), len(way[1])), reverse=True)
  return [(left, right) for left, right, _ in merges]


def sentencepiece_like(messages, added=True, keep_merge=lambda rank: True):
  golden = description(messages, "spm-llama")
  pieces = [t.decode() for t in golden.tokens]
  merges = [merge for rank, merge in enumerate(merges_from_scores(pieces, golden.scores))
            if keep_merge(rank)]
  tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, merges, unk_token="<unk>",
                                   fuse_unk=True, byte_fallback=True))
  if added:
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False)
                                  for t in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
  tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(),
                                         decoders.Fuse(), decoders.Strip(" ", 1, 0)])
  return tokenizer


def llama2(messages, added=True):
  tokenizer = sentencepiece_like(messages, added)
  tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE),
                                               normalizers.Replace(" ", SPACE)])
  return tokenizer


def mistral(messages, added=True):
  tokenizer = sentencepiece_like(messages, added)
  tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=False)
  return tokenizer


def some_merges(messages, added=True):
  """Of the ways to make a piece only some, and of some pieces none: what a trainer leaves, or what
  transformers before 4.31 left out (the pieces with score 0)."""
  tokenizer = sentencepiece_like(messages, added, keep_merge=lambda rank: rank > 0 and rank % 7 != 3)
  tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always", split=False)
  return tokenizer


# --- their folders ----------------------------------------------------------------------------

def template(name):
  return (GOLDEN / "chat_templates" / f"{name}.jinja").read_text()


def added_tokens_decoder(tokenizer):
  return {str(i): {"content": t.content, "lstrip": t.lstrip, "normalized": t.normalized,
                   "rstrip": t.rstrip, "single_word": t.single_word, "special": t.special}
          for i, t in sorted(tokenizer.get_added_tokens_decoder().items())}


def write_json(path, value):
  path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_folder(name, tokenizer, *, tokenizer_config, model_type="llama", old_merges=False,
                 files=None):
  folder = OUT / name
  folder.mkdir(parents=True)
  tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
  if old_merges:  # up to `tokenizers` 0.19: "left right"
    root = json.loads((folder / "tokenizer.json").read_text())
    root["model"]["merges"] = [" ".join(pair) for pair in root["model"]["merges"]]
    write_json(folder / "tokenizer.json", root)
  write_json(folder / "tokenizer_config.json",
             {"clean_up_tokenization_spaces": False, "model_max_length": 8192} | tokenizer_config)
  architecture = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM",
                  "mistral": "MistralForCausalLM"}[model_type]
  write_json(folder / "config.json", {
      "architectures": [architecture], "model_type": model_type, "hidden_size": 16,
      "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 24,
      "num_hidden_layers": 1, "vocab_size": tokenizer.get_vocab_size(), "rms_norm_eps": 1e-5,
      "max_position_embeddings": 8192, "bos_token_id": 1, "eos_token_id": 2,
      "tie_word_embeddings": True})
  for file_name, content in (files or {}).items():
    (folder / file_name).write_text(content)


def write_differing_ids(name, ids_name, recognized, plain):
  """Compares with <ids_name>.ids; says and writes what differs."""
  golden = (GOLDEN / f"{ids_name}.ids").read_text().removesuffix("\n").split("\n")
  texts, lines = golden_texts(), []
  assert len(texts) == len(golden) >= 2000
  for number, (text, expected) in enumerate(zip(texts, golden)):
    a, b = (t.encode(text, add_special_tokens=False).ids for t in (recognized, plain))
    line = ids_text(a) + ("" if a == b else "\t" + ids_text(b))
    if line != expected:
      lines.append(f"{number} {line}")
  print(f"{name}: {len(lines)} of {len(texts)} differ from {ids_name}.ids")
  if lines:
    (OUT / f"{name}.ids").write_text("\n".join(lines) + "\n")
  return len(lines)


def main():
  shutil.rmtree(OUT, ignore_errors=True)
  messages = model_messages()

  def byte_level_pair(name):
    return byte_level(messages, name), byte_level(messages, name, added=False)

  smollm, plain = byte_level_pair("smollm")
  assert write_differing_ids("smollm", "smollm", smollm, plain) == 0
  write_folder("smollm", smollm, tokenizer_config={
      "add_prefix_space": False, "added_tokens_decoder": added_tokens_decoder(smollm),
      "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>",
      "unk_token": "<|endoftext|>", "chat_template": template("smollm2"),
      "tokenizer_class": "GPT2Tokenizer"})

  gpt2, plain = byte_level_pair("gpt2")
  assert write_differing_ids("gpt2", "gpt2", gpt2, plain) == 0
  write_folder("gpt2", gpt2, old_merges=True, tokenizer_config={
      "add_prefix_space": False, "add_bos_token": False, "tokenizer_class": "GPT2Tokenizer",
      "bos_token": {"__type": "AddedToken", "content": "<|endoftext|>", "lstrip": False,
                    "normalized": True, "rstrip": False, "single_word": False},
      "eos_token": {"__type": "AddedToken", "content": "<|endoftext|>", "lstrip": False,
                    "normalized": True, "rstrip": False, "single_word": False}})

  llama3_ = llama3(messages)
  assert write_differing_ids("llama3", "llama-bpe", llama3_, llama3(messages, added=False)) == 0
  write_folder("llama3", llama3_, tokenizer_config={
      "added_tokens_decoder": added_tokens_decoder(llama3_), "bos_token": "<|endoftext|>",
      "eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast",
      "chat_template": template("llama-3.1")},
      files={"generation_config.json": '{"bos_token_id": 0, "eos_token_id": [1, 2]}\n'})

  qwen2, plain = byte_level_pair("qwen2")
  assert write_differing_ids("qwen2", "qwen2", qwen2, plain) == 0
  write_folder("qwen2", qwen2, model_type="qwen2", tokenizer_config={
      "add_bos_token": False, "add_prefix_space": False, "bos_token": None,
      "added_tokens_decoder": added_tokens_decoder(qwen2), "eos_token": "<|im_end|>",
      "pad_token": "<|endoftext|>", "split_special_tokens": False, "unk_token": None,
      "tokenizer_class": "Qwen2Tokenizer"}, files={"chat_template.jinja": template("qwen2.5")})

  llama2_ = llama2(messages)
  write_differing_ids("llama2", "spm-llama", llama2_, llama2(messages, added=False))
  write_folder("llama2", llama2_, tokenizer_config={
      "add_bos_token": True, "add_eos_token": False, "legacy": True, "bos_token": "<s>",
      "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None,
      "added_tokens_decoder": added_tokens_decoder(llama2_), "sp_model_kwargs": {},
      "chat_template": template("llama-2"), "tokenizer_class": "LlamaTokenizer"})

  for name, make in (("mistral", mistral), ("some_merges", some_merges)):
    tokenizer = make(messages)
    write_differing_ids(name, "spm-llama", tokenizer, make(messages, added=False))
    write_folder(name, tokenizer, model_type="mistral", tokenizer_config={
        "add_bos_token": True, "add_eos_token": False, "legacy": False, "bos_token": "<s>",
        "eos_token": "</s>", "unk_token": "<unk>", "chat_template": template("mistral-v0.3"),
        "added_tokens_decoder": added_tokens_decoder(tokenizer), "tokenizer_class": "LlamaTokenizer"})


if __name__ == "__main__":
  main()
