#!/usr/bin/env python3
"""Golden values of the default model: what an exact forward pass says about a page of English.

Reads the GGUF with the `gguf` package, dequantizes every tensor exactly, and runs a plain numpy
Llama forward in float64, written from the architecture's description and independent of Tessera's
code. Stores, for smollm2/text.txt: its token ids, the most probable next token at every position,
and the log-probability of the token that really comes next.

    python make_smollm2_golden.py SmolLM2-135M-Instruct.Q4_1.gguf      (needs numpy, gguf, tokenizers)
"""
import json
import pathlib
import sys

import gguf
import numpy as np
import tokenizers

HERE = pathlib.Path(__file__).parent / "smollm2"


def field(reader, name):
    return reader.fields[name].contents()


def tokenize(reader, text):
    vocab = {token: i for i, token in enumerate(field(reader, "tokenizer.ggml.tokens"))}
    merges = [tuple(m.split(" ", 1)) for m in field(reader, "tokenizer.ggml.merges")]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])
    return tokenizer.encode(text).ids


def weights(reader):
    return {
        t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float64).reshape(
            [int(d) for d in reversed(t.shape)])
        for t in reader.tensors
    }


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rotate(x, theta):
    """x: (tokens, heads, head_dim); pairs (2i, 2i + 1), as GGUF's llama family stores them."""
    tokens, _, dim = x.shape
    angles = np.arange(tokens)[:, None] * theta ** (-np.arange(0, dim, 2) / dim)[None, :]
    cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    out = np.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
    return out


def attend(q, k, v):
    """Causal; q: (tokens, heads, dim), k and v: (tokens, kv heads, dim)."""
    tokens, heads, dim = q.shape
    group = heads // k.shape[1]
    mask = np.triu(np.full((tokens, tokens), -np.inf), 1)
    out = np.empty_like(q)
    for head in range(heads):
        scores = q[:, head] @ k[:, head // group].T / np.sqrt(dim) + mask
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out[:, head] = scores / scores.sum(axis=-1, keepdims=True) @ v[:, head // group]
    return out


def forward(reader, w, ids):
    heads = field(reader, "llama.attention.head_count")
    kv_heads = field(reader, "llama.attention.head_count_kv")
    eps = field(reader, "llama.attention.layer_norm_rms_epsilon")
    theta = float(field(reader, "llama.rope.freq_base"))
    n = len(ids)
    x = w["token_embd.weight"][ids]
    for layer in range(field(reader, "llama.block_count")):
        p = f"blk.{layer}."
        h = rms_norm(x, w[p + "attn_norm.weight"], eps)
        q = rotate((h @ w[p + "attn_q.weight"].T).reshape(n, heads, -1), theta)
        k = rotate((h @ w[p + "attn_k.weight"].T).reshape(n, kv_heads, -1), theta)
        v = (h @ w[p + "attn_v.weight"].T).reshape(n, kv_heads, -1)
        x = x + attend(q, k, v).reshape(n, -1) @ w[p + "attn_output.weight"].T
        h = rms_norm(x, w[p + "ffn_norm.weight"], eps)
        gate = h @ w[p + "ffn_gate.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w[p + "ffn_up.weight"].T)) @ w[
            p + "ffn_down.weight"].T
    head = w.get("output.weight", w["token_embd.weight"])
    return rms_norm(x, w["output_norm.weight"], eps) @ head.T


def main():
    reader = gguf.GGUFReader(sys.argv[1])
    ids = tokenize(reader, (HERE / "text.txt").read_text())
    logits = forward(reader, weights(reader), np.array(ids))
    largest = logits.max(axis=-1, keepdims=True)
    logprobs = logits - largest - np.log(np.exp(logits - largest).sum(axis=-1, keepdims=True))
    chosen = logprobs[np.arange(len(ids) - 1), ids[1:]]
    two = np.sort(logits, axis=-1)[:, -2:]
    golden = {
        "token_ids": ids,
        "top1": [int(i) for i in logits.argmax(axis=-1)],
        "next_logprob": [round(float(p), 5) for p in chosen],
        "perplexity": float(np.exp(-chosen.mean())),
        "smallest_top1_margin": float((two[:, 1] - two[:, 0]).min()),
    }
    (HERE / "teacher_forced.json").write_text(json.dumps(golden) + "\n")
    print(len(ids), "tokens, perplexity", golden["perplexity"])


if __name__ == "__main__":
    main()
