"""Model files to measure with, made once and kept in the cache (~/.cache/tessera/models/bench).

  python make_models.py smollm2-q4_0 1.1b-q8_0      prints one path per line
  python make_models.py --list

smollm2-TYPE is the default model with every matrix dequantized and quantized anew; 1.1b-TYPE has the
shape of TinyLlama and random weights: speed does not depend on what they say. Needs numpy and gguf
(requirements.txt beside this file); compare.py runs it in its own environment.
"""
import argparse
import os
import pathlib
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

TYPES = {"q4_0": Type.Q4_0, "q4_1": Type.Q4_1, "q8_0": Type.Q8_0, "bf16": Type.BF16,
         "f16": Type.F16, "q4_k": Type.Q4_K, "q6_k": Type.Q6_K}
FILE_TYPES = {"q4_0": 2, "q4_1": 3, "q8_0": 7, "bf16": 32,
              "f16": 1, "q4_k": 14, "q6_k": 18}  # general.file_type
# Bytes of a block of 256, and where its float16 scales stand; gguf quantizes to neither.
RANDOM_BLOCKS = {Type.Q4_K: (144, (0, 2)), Type.Q6_K: (210, (208,))}
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"


def cache():
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    return pathlib.Path(os.environ.get("TESSERA_CACHE", base / "tessera")) / "models"


def add(writer, name, values, kind):
    """A matrix of float32 values as `kind`; vectors stay float32."""
    if values.ndim == 1:
        writer.add_tensor(name, values.astype(np.float32))
    else:
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)


def copy_fields(reader, writer):
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture",
                                                            "general.file_type", "general.name"):
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=element)


def smollm2(path, kind_name):
    source = cache() / SMOLLM2
    if not source.exists():
        sys.exit(f"{source} is missing: run deploy/fetch-model.sh first")
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, "llama")
    copy_fields(reader, writer)
    writer.add_name(f"SmolLM2-135M-{kind_name.upper()}")
    writer.add_file_type(FILE_TYPES[kind_name])
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        add(writer, tensor.name, values.reshape([int(n) for n in reversed(tensor.shape)]),
            TYPES[kind_name])
    finish(writer)


# TinyLlama 1.1B.
HIDDEN, LAYERS, HEADS, KV_HEADS, FFN, VOCABULARY, POSITIONS = 2048, 22, 32, 4, 5632, 32000, 8192


def tokenizer(writer):
    """A sentencepiece vocabulary of the right size: special tokens, bytes, then made-up words."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [2, 3, 3] + [6] * 256
    words = VOCABULARY - len(tokens)
    tokens += [f"\u2581w{i}" for i in range(words)]
    types += [1] * words
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(words)])
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


class RandomRows:
    """Quantized matrices that repeat the same random rows: made in a second, whatever their size."""

    def __init__(self, kind):
        self.kind, self.random, self.rows = kind, np.random.default_rng(1), {}

    def some(self, columns):
        if self.kind not in RANDOM_BLOCKS:
            values = self.random.standard_normal((64, columns), dtype=np.float32) * 0.02
            return gguf.quantize(values, self.kind)
        size, scales = RANDOM_BLOCKS[self.kind]
        blocks = self.random.integers(0, 256, (64, columns // 256, size), dtype=np.uint8)
        for at in scales:
            blocks[:, :, at:at + 2] = np.array([1e-5], dtype=np.float16).view(np.uint8)
        return blocks.reshape(64, -1)

    def matrix(self, rows, columns):
        if columns not in self.rows:
            self.rows[columns] = self.some(columns)
        some = self.rows[columns]
        return np.tile(some, (-(-rows // len(some)), 1))[:rows]


def tiny_llama(path, kind_name):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(f"1.1B-{kind_name.upper()}")
    writer.add_file_type(FILE_TYPES[kind_name])
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    tokenizer(writer)
    kind = TYPES[kind_name]
    random = RandomRows(kind)

    def matrix(name, rows, columns):
        writer.add_tensor(name + ".weight", random.matrix(rows, columns), raw_dtype=kind)

    def norm(name):
        writer.add_tensor(name + ".weight", np.ones(HIDDEN, dtype=np.float32))

    kv = HIDDEN // HEADS * KV_HEADS
    matrix("token_embd", VOCABULARY, HIDDEN)
    for i in range(LAYERS):
        norm(f"blk.{i}.attn_norm")
        norm(f"blk.{i}.ffn_norm")
        matrix(f"blk.{i}.attn_q", HIDDEN, HIDDEN)
        matrix(f"blk.{i}.attn_k", kv, HIDDEN)
        matrix(f"blk.{i}.attn_v", kv, HIDDEN)
        matrix(f"blk.{i}.attn_output", HIDDEN, HIDDEN)
        matrix(f"blk.{i}.ffn_gate", FFN, HIDDEN)
        matrix(f"blk.{i}.ffn_up", FFN, HIDDEN)
        matrix(f"blk.{i}.ffn_down", HIDDEN, FFN)
    norm("output_norm")
    matrix("output", VOCABULARY, HIDDEN)
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


SHAPES = {"smollm2": smollm2, "1.1b": tiny_llama}
# SmolLM2's rows are no multiple of 256.
NAMES = [f"{shape}-{kind}" for shape in SHAPES for kind in TYPES
         if shape != "smollm2" or TYPES[kind] not in RANDOM_BLOCKS]


def model(name):
    """The path of a model of NAMES, made if it is not there."""
    shape, kind = name.rsplit("-", 1)
    if name == "smollm2-q4_1":
        return cache() / SMOLLM2
    path = cache() / "bench" / f"{name}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        print(f"making {path}", file=sys.stderr)
        SHAPES[shape](part, kind)
        part.rename(path)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="the names there are")
    args = parser.parse_args()
    if args.list:
        print("\n".join(NAMES))
    for name in args.names:
        print(model(name))


if __name__ == "__main__":
    main()
