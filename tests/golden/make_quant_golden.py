#!/usr/bin/env python3
"""Makes tests/golden/quant_golden.bin: random blocks of every stored type, and their values.

Run by hand when a type is added (needs numpy and gguf, whose `quants` dequantizes independently of
this repository); the tests only read what it wrote.

    python3 tests/golden/make_quant_golden.py

Format, little endian, once per type: 8 bytes name (zero padded), u32 rows, u32 cols, u32 n,
n bytes as in a file, rows * cols float32 values.
"""

import pathlib
import struct

import gguf
import numpy as np

ROWS, COLS = 3, 512
# type -> where its blocks hold half floats, which random bytes would make NaN
HALF_OFFSETS = {"F32": [], "F16": [], "BF16": [], "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2],
                "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def random_rows(rng, name, qtype):
  if not HALF_OFFSETS[name]:
    values = rng.normal(size=(ROWS, COLS)).astype(np.float32)
    return gguf.quants.quantize(values, qtype).view(np.uint8).reshape(ROWS, -1)
  elements, size = gguf.GGML_QUANT_SIZES[qtype]
  blocks = rng.integers(0, 256, size=(ROWS * COLS // elements, size), dtype=np.uint8)
  for offset in HALF_OFFSETS[name]:
    halves = rng.normal(scale=0.05, size=(len(blocks), 1)).astype(np.float16)
    blocks[:, offset:offset + 2] = halves.view(np.uint8)
  return blocks.reshape(ROWS, -1)


def main():
  rng = np.random.default_rng(11)
  with open(pathlib.Path(__file__).parent / "quant_golden.bin", "wb") as out:
    for name in HALF_OFFSETS:
      qtype = gguf.GGMLQuantizationType[name]
      raw = random_rows(rng, name, qtype)
      values = gguf.quants.dequantize(raw.view(np.float32) if name == "F32" else raw, qtype)
      values = np.ascontiguousarray(values.reshape(ROWS, COLS), dtype="<f4")
      assert np.isfinite(values).all()
      out.write(struct.pack("<8sIII", name.encode(), ROWS, COLS, raw.nbytes))
      out.write(raw.tobytes())
      out.write(values.tobytes())
      print(f"{name}: {raw.nbytes} bytes, std {values.std():.3f}")


if __name__ == "__main__":
  main()
